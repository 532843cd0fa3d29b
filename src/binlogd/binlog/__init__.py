"""Replication data, pure: GTID sets, event codecs, checksums, and the framing of events. Knows no socket, no file.

The modules of HOT are compiled when the package is built (machine.py tells how). With BINLOGD_PURE=1 in the
environment the Python they were compiled from runs instead, which is for tests and benchmarks: both are to do the same.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

HOT = ("walk", "framing", "excerpt")


def pure_wanted() -> bool:
    """Whether the environment asks for plain Python."""
    return os.environ.get("BINLOGD_PURE", "0") not in ("", "0")


def compiled() -> bool:
    """Whether the hot modules run compiled; else everything works, and more slowly."""
    from binlogd.binlog import framing, walk

    return not any(str(module.__file__).endswith(".py") for module in (walk, framing))


def load_plain() -> None:
    """Import the hot modules from their .py files, which Python itself does only where nothing compiled is beside."""
    this = sys.modules[__name__]
    for name in HOT:
        full_name = f"{__name__}.{name}"
        spec = spec_from_file_location(full_name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[full_name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
        setattr(this, name, module)


def _is_plain(name: str) -> bool:
    spec = find_spec(f"{__name__}.{name}")
    return spec is not None and str(spec.origin).endswith(".py")


# Compiled they call each other as C does, so it is both or none: one that did not compile takes the other along.
if pure_wanted() or len({_is_plain(name) for name in HOT}) > 1:
    load_plain()
