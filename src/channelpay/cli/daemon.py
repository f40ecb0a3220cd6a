"""How a command reaches this home's daemon."""

from __future__ import annotations

from channelpay.cli.app import Shared
from channelpay.cli.control import Control
from channelpay.messages.control import ChannelOne, ShowChannel


def connect(options: Shared) -> Control:
    """The daemon of the home; raises CommandError, or HomeError if there is no home at all."""
    home = options.home
    if not home.config_file.exists():
        home.read_config()  # says how to make a home
    return Control.connect(home.control_socket, wait_s=options.wait_s, timeout_s=options.timeout_s)


def find_channel(control: Control, prefix: str) -> ChannelOne:
    """The one channel whose id begins so."""
    return control.call(ShowChannel(prefix), ChannelOne)
