"""The command line. It asks a daemon or a ledger and shows what they answer; it decides nothing.

`root` has the command tree, `app` what all commands share, `exits` the exit codes, `control` the
client of the local socket, `inputs` what people type, `views` and `show` what they see.
"""

from __future__ import annotations


def main() -> None:
    """The program `channelpay`; ends the process with one of the documented exit codes."""
    from channelpay.cli.root import cli  # not before somebody runs it

    cli()
