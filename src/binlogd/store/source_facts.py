"""Settings of the source that clients ask us for: kept beside its history, in ``source.json`` of the timeline.

The receiver asks for them when it connects and the sender answers with them, also when neither source nor receiver is
there any more. Values are what SHOW GLOBAL VARIABLES shows. Beside them stands the CRC-32 of them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binlogd.binlog.crc import crc32
from binlogd.store.disk import Disk, explained

FILE = "source.json"
SEAL = "crc32"

TEXTS = (
    "gtid_mode",
    "enforce_gtid_consistency",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "sql_mode",
    "character_set_server",
    "collation_server",
    "time_zone",
    "system_time_zone",
)
NUMBERS = ("lower_case_table_names", "auto_increment_increment", "auto_increment_offset")


def _seal(values: Mapping[str, str]) -> str:
    return f"{crc32(json.dumps(dict(values)).encode()):08x}"


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """``values`` by name, of TEXTS and NUMBERS those that the source knows."""

    values: Mapping[str, str]

    def for_facts(self) -> dict[str, Any]:
        """By name, numbers as numbers."""
        known: dict[str, Any] = {name: self.values[name] for name in TEXTS if name in self.values}
        known |= {name: int(self.values[name]) for name in NUMBERS if name in self.values}
        known.setdefault("gtid_mode", "OFF")  # a source that does not know the variable has no GTIDs
        return known

    def save(self, disk: Disk, folder: Path) -> None:
        """Keep them, unless they are kept already."""
        if load(folder) != self:
            with explained("write", folder / FILE):
                disk.replace(folder / FILE, self.encode())

    def encode(self) -> bytes:
        """The file's content."""
        return json.dumps({**self.values, SEAL: _seal(self.values)}, indent=1).encode() + b"\n"


def load(folder: Path) -> SourceSettings | None:
    """What is kept in a timeline's folder; None when there is nothing of use."""
    try:
        values = json.loads((folder / FILE).read_text())
        settings = SourceSettings({str(name): str(value) for name, value in values.items() if name != SEAL})
        settings.for_facts()
        if values.get(SEAL) != _seal(settings.values):
            return None
    except (OSError, ValueError, AttributeError):
        return None
    return settings


def is_sound(folder: Path) -> bool:
    """Whether every byte of what is kept in a timeline's folder is as it was written."""
    settings = load(folder)
    return settings is not None and (folder / FILE).read_bytes() == settings.encode()
