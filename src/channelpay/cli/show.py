"""How results are shown: aligned columns for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.table import Table

_PIPE_WIDTH: Final = 100_000
"""Columns when stdout is no terminal: rows are never folded for a program or a file."""


def printable(text: str) -> str:
    """`text` with control characters and odd spaces escaped: what a peer wrote must not steer a terminal (spec W-7)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def memo_text(memo: bytes) -> str | None:
    """A memo as text if it is printable UTF-8, else None."""
    try:
        text = memo.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def moment(seconds: int) -> str:
    """A time of the ledger's clock, in UTC; the bare number when no calendar reaches it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def print_json(data: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(data))


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one pair on a line."""
    _print([], [list(pair) for pair in pairs], frozenset())


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """A table with a header; columns named in `right` are aligned to the right."""
    _print(headers, rows, frozenset(right))


def _print(headers: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str]) -> None:
    from rich.console import Console  # a tenth of a second that --json need not pay
    from rich.table import Table

    table: Table = Table(box=None, pad_edge=False, show_header=bool(headers), header_style="bold")
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(cell) for cell in row))
    if not table.columns:
        return
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if terminal else _PIPE_WIDTH)
    if terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _cell(text: str) -> Any:
    from rich.text import Text  # not markup: brackets in a text stay brackets

    return Text(printable(text), overflow="fold")
