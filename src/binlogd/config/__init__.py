"""The configuration: the only place that knows TOML and the environment.

    layers.py    where values come from, strongest first: command line, environment, file; unknown names
    url.py       --source mysql://user:password@host:port
    address.py   HOST:PORT
    values.py    the enums and checked types that options are made of
    model.py     every option, its type, default, limits and description: the one definition of each
    load.py      layers + model → Settings, or one ConfigError that names the key, its value and where it stands
    template.py  the model as a commented configuration file (binlogd init)

Invariants: a ``Settings`` is complete, checked and frozen; nothing that was written is ignored (an unknown
key, an unknown ``BINLOGD_…`` variable and an option this version cannot honour are errors); no text made
from a ``Settings`` or a ``ConfigError`` holds a secret.
"""

from binlogd.config.address import Address, parse_address
from binlogd.config.layers import find_config
from binlogd.config.load import NOT_YET, Purpose, find_data_dir, load_settings
from binlogd.config.model import Archive, Http, Server, Settings, Source, Store, User
from binlogd.config.values import Compression, Divergence, Durability, Follow, Role, TlsMode

__all__ = [
    "NOT_YET",
    "Address",
    "Archive",
    "Compression",
    "Divergence",
    "Durability",
    "Follow",
    "Http",
    "Purpose",
    "Role",
    "Server",
    "Settings",
    "Source",
    "Store",
    "TlsMode",
    "User",
    "find_config",
    "find_data_dir",
    "load_settings",
    "parse_address",
]
