"""The home of a node or a ledger: its files, its seed words, its configuration. Spec chapter 12.

`layout` knows the files and their modes, `rules` how one value is checked, `config` every key,
`load` how text and flags become a configuration.
"""

from channelpay.home.config import Config, LedgerConfig, NodeConfig
from channelpay.home.layout import Home, HomeError
from channelpay.home.load import ConfigError, Loaded, load_config

__all__ = ["Config", "ConfigError", "Home", "HomeError", "LedgerConfig", "Loaded", "NodeConfig", "load_config"]
