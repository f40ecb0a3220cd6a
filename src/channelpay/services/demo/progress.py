"""How far the demo is, on stderr: one live line on a terminal, a plain line a second elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

from channelpay.amounts import format_units
from channelpay.services.demo.summary import USD

_PLAIN_EVERY_S: Final = 1.0
_MEASURE_S: Final = 0.25


@dataclass
class State:
    """What is shown."""

    pieces: int = 0
    of: int = 0
    per_second: float = 0.0
    buyer_units: int | None = None
    seller_units: int | None = None
    _measured: tuple[int, float] = (0, 0.0)  # pieces and moment at which the speed was measured last

    def advance(self, pieces: int, now: float) -> None:
        """`pieces` are there at the moment `now` (seconds); the speed is that of the last fraction of a second."""
        before, at = self._measured
        self.pieces = pieces
        if pieces and not before:
            self._measured = (pieces, now)
        elif now - at >= _MEASURE_S:
            self.per_second = (pieces - before) / (now - at)
            self._measured = (pieces, now)

    def text(self) -> str:
        """One line."""
        parts = [f"{self.pieces:>7,} of {self.of:,} pieces", f"{self.per_second:>7,.0f} payments/s"]
        if self.buyer_units is not None and self.seller_units is not None:
            parts.append(f"buyer {format_units(self.buyer_units, USD)}")
            parts.append(f"seller {format_units(self.seller_units, USD)}")
        return "   ".join(parts)


class Progress(Protocol):
    """Shows a State whenever told to, and notes in between."""

    state: State

    def show(self) -> None:
        """The state has changed."""

    def note(self, text: str) -> None:
        """Something happened."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Plain:
    """Lines for logs and pipes."""

    def __init__(self) -> None:
        self.state = State()
        self._shown_at = 0.0

    def show(self) -> None:
        """Print the state, at most once a second."""
        if time.monotonic() - self._shown_at >= _PLAIN_EVERY_S:
            self._shown_at = time.monotonic()
            print(self.state.text(), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tidy up."""


class Silent:
    """For programs."""

    def __init__(self) -> None:
        self.state = State()

    def show(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tidy up."""


class Live:
    """A line that moves, at the bottom of a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.state = State()
        self._console = Console(stderr=True, highlight=False)
        self._live = RichLive("", console=self._console, auto_refresh=False, transient=False)

    def show(self) -> None:
        """Draw the state."""
        self._live.update(self._drawn(), refresh=True)

    def note(self, text: str) -> None:
        """Print one line above the moving one."""
        self._console.print(text, markup=False)

    def _drawn(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_row(ProgressBar(total=self.state.of or 1, completed=self.state.pieces, width=24), self.state.text())
        return table

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


def progress(live: bool | None, silent: bool) -> Progress:
    """The moving line if asked for, or by default if stderr is a terminal; else plain lines, or with `silent` none."""
    if live or (live is None and not silent and sys.stderr.isatty()):
        return Live()
    return Silent() if silent else Plain()
