"""How ``binlogd run`` hands its options to the processes it starts.

A child is started as ``binlogd receive --supervised`` and reads the options as one JSON line from its standard input:
a password in ``--source`` is then in nobody's argument list or environment. It ends when its parent does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping

from binlogd.cli.processes import end_with_parent
from binlogd.config import Purpose, Settings, load_settings

MAX_OPTIONS = 64 * 1024  # bytes of the line: a few paths and a URL


def encode_options(options: Mapping[str, str | None]) -> bytes:
    """The line for a child."""
    return json.dumps({**options, "supervisor": os.getpid()}).encode() + b"\n"


def launched(options: Mapping[str, str | None], purpose: Purpose, *, supervised: bool) -> Callable[[], Settings]:
    """What reads the settings of this process, now and again: by its own options, or, supervised, its parent's."""
    if supervised:
        line = sys.stdin.buffer.readline(MAX_OPTIONS)
        if not line.endswith(b"\n"):
            raise SystemExit(0)  # the supervisor ended before it told us what to do
        told = json.loads(line)
        end_with_parent(told.pop("supervisor"))
        options = told

    def load() -> Settings:
        return load_settings(
            options["config"],
            source=options["source"],
            listen=options["listen"],
            data_dir=options["data_dir"],
            http=options["http"],
            purpose=purpose,
        )

    return load
