"""The ledger daemon as a process: its files, signals, logs, exit code. Spec N-1, N-2."""

from __future__ import annotations

import signal
import time
from typing import Final

import structlog
import trio

from channelpay.daemon.ledger_server import serve_ledger
from channelpay.daemon.main import set_up_logs
from channelpay.daemon.memory import keep_tidy
from channelpay.daemon.usage import tell_usage
from channelpay.errors import ChannelpayError, StoreFailed
from channelpay.home import Home
from channelpay.home.config import LedgerConfig
from channelpay.keys import Keyring
from channelpay.ledger.books import Rules
from channelpay.store.ledger import LedgerStore

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


def create_books(home: Home) -> None:
    """Empty books for the ledger of a new home; raises HomeError or StoreFailed, and overwrites nothing."""
    LedgerStore.create(home.ledger_db, home.keyring().identity.public, int(time.time())).close()


def run_ledger(home: Home, config: LedgerConfig) -> int:
    """Run the ledger until SIGTERM or SIGINT; returns the process's exit code."""
    set_up_logs(config.log)
    log = structlog.get_logger("channelpay.ledger")
    try:
        keys = home.keyring()
        store = LedgerStore.open(home.ledger_db, keys.identity.public)
        try:
            trio.run(_serve, store, keys, config)
        finally:
            store.close()
    except StoreFailed as error:
        log.error(
            "the books cannot be kept; the ledger has stopped and answered nothing that is not on disk", why=str(error)
        )
        return EXIT_FAILED
    except (ChannelpayError, OSError) as error:
        log.error("the ledger cannot run", why=str(error))
        return EXIT_FAILED
    return EXIT_OK


async def _serve(store: LedgerStore, keys: Keyring, config: LedgerConfig) -> None:
    stop = trio.Event()
    terms = config.ledger
    rules = Rules(keys.account.public, terms.min_window_s, terms.max_window_s, terms.min_deposit)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_wait_for_signal, stop)
        await nursery.start(tell_usage, structlog.get_logger("channelpay.ledger"))
        nursery.start_soon(keep_tidy)
        try:
            await serve_ledger(store, keys.identity, rules, terms.listen, admission=config.admission, stop=stop)
        except (ChannelpayError, OSError) as error:
            failure = error  # raised outside the nursery, which would wrap it into a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _wait_for_signal(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()
