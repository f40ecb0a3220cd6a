"""The node daemon as a process: signals, logs, exit code. Spec N-1."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

import structlog
import trio

from channelpay.daemon.embedded import Stopping, run
from channelpay.daemon.memory import keep_tidy
from channelpay.daemon.usage import tell_usage
from channelpay.errors import ChannelpayError, StoreFailed
from channelpay.home import Home
from channelpay.home.config import Log, NodeConfig

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


def set_up_logs(config: Log) -> None:
    """Structured logs to stderr: text on a terminal, one JSON object a line otherwise."""
    as_text = config.format == "text" or (config.format == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def run_node(home: Home, config: NodeConfig, restored: bool = False) -> int:
    """Run the daemon until SIGTERM, SIGINT or the Stop method; returns the process's exit code.

    `restored`: the store came from a backup (spec C-28).
    """
    set_up_logs(config.log)
    log = structlog.get_logger("channelpay.node")
    try:
        trio.run(_run, home, config, restored)
    except StoreFailed as error:
        log.error("the store failed; the node has stopped and sent nothing that is not on disk", why=str(error))
        return EXIT_FAILED
    except (ChannelpayError, OSError) as error:
        log.error("the node cannot run", why=str(error))
        return EXIT_FAILED
    return EXIT_OK


async def _run(home: Home, config: NodeConfig, restored: bool) -> None:
    stop = Stopping()
    failure: Exception | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wait_for_signal, signals, stop)
            await nursery.start(tell_usage, structlog.get_logger("channelpay.node"))
            nursery.start_soon(keep_tidy)
            try:
                async with run(home, config, stop, restored=restored):
                    await stop.event.wait()
            # Raised again outside the nursery, which would wrap it into a group.
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _wait_for_signal(signals: AsyncIterator[int], stop: Stopping) -> None:
    async for _ in signals:
        stop()
