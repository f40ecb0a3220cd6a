"""`channelpay` itself, with a small memory for payment ids: it is full, and has been replaced, within a minute.

A node remembers REMEMBERED_IDS of each direction, tens of MiB of them, in tables that Python makes anew now and then:
it would take hours until such steps cancel out, and any leak would hide behind them.
"""

from __future__ import annotations

from channelpay import limits

limits.REMEMBERED_IDS = 2048  # type: ignore[misc]  # before any other module has read it

if __name__ == "__main__":
    from channelpay import cli

    cli.main()
