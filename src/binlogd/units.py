"""Durations and sizes as people write them: ``500ms``, ``1h30m``, ``7d``; ``5GiB``, ``500MB``, ``1048576``.

A duration is one or more numbers, each with a unit (ms, s, m, h, d, w), the larger unit first, and never a
bare number: 30 would be seconds to one reader and days to another. Inside binlogd it is seconds as a float;
the finest step is a millisecond, which is also MySQL's finest heartbeat.

A size is whole bytes, or a number with a unit: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB of 1024
(IEC 80000-13). A bare ``G`` is refused, because it means 1024³ to mysqld and 1000³ to a disk's maker. Case
does not matter.

What ``format_…`` writes, ``parse_…`` reads back to the same value; ``human_size`` is for reading alone. Errors are
``ValueError`` with one line that does not repeat the text: the caller knows whether it may be shown.
"""

from __future__ import annotations

import re
from decimal import Decimal

_MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
# What format_duration writes: weeks are read but not written, since nobody thinks of 30 days as 4w2d.
_WRITTEN = ("d", "h", "m", "s", "ms")
_DURATION_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(ms|w|d|h|m|s)\s*", re.IGNORECASE)

MAX_DURATION = 36_500 * 86_400.0
"""A hundred years, in seconds: beyond any use, and safe to subtract from today's date."""

_BYTES = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_SIZE_NAMES = {
    "kb": "kB",
    "mb": "MB",
    "gb": "GB",
    "tb": "TB",
    "kib": "KiB",
    "mib": "MiB",
    "gib": "GiB",
    "tib": "TiB",
}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")

MAX_SIZE = 2**63 - 1
"""The largest offset a file can have (off_t)."""

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def parse_duration(text: str) -> float:
    """Seconds meant by ``text``, such as ``1h30m``; ValueError when it is no duration."""
    rest, milliseconds, last = text.strip(), Decimal(0), MAX_DURATION * 1000 + 1
    if not rest:
        raise ValueError(_NO_DURATION)
    while rest:
        part = _DURATION_PART.match(rest)
        if part is None:
            raise ValueError(_NO_DURATION)
        unit = _MILLISECONDS[part[2].lower()]
        if unit >= last:
            raise ValueError("the larger unit goes first and each stands once, as in 1h30m")
        milliseconds += Decimal(part[1]) * unit
        rest, last = rest[part.end() :], unit
    if milliseconds != milliseconds.to_integral_value():
        raise ValueError("the finest step of a duration is 1ms")
    if milliseconds > MAX_DURATION * 1000:
        raise ValueError(f"a duration is at most {format_duration(MAX_DURATION)}")
    return int(milliseconds) / 1000


_NO_DURATION = "a duration is a number with a unit (ms, s, m, h, d, w), such as 500ms, 30s, 1h30m or 7d"


def format_duration(seconds: float) -> str:
    """``seconds``, to the millisecond, as ``parse_duration`` reads it: 5400 → ``1h30m``, 0 → ``0s``."""
    rest, parts = round(seconds * 1000), []
    if rest < 0:
        raise ValueError("a duration is not negative")
    for unit in _WRITTEN:
        count, rest = divmod(rest, _MILLISECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_size(text: str | int) -> int:
    """Bytes meant by ``text``, such as ``5GiB`` or ``1048576``; ValueError when it is no size."""
    match = _SIZE.fullmatch(str(text).strip())
    factor = None if match is None else _BYTES.get(match[2].lower())
    if match is None or factor is None:
        if match is not None and match[2].lower() in "kmgt":
            letter = match[2].upper()
            raise ValueError(f"{letter} alone is ambiguous: write {letter}iB (1024) or {letter}B (1000)")
        raise ValueError("a size is whole bytes or a number with a unit, such as 5GiB, 500MB or 1048576")
    size = Decimal(match[1]) * factor
    if size != size.to_integral_value():
        raise ValueError("a size is a whole number of bytes")
    if size > MAX_SIZE:
        raise ValueError("a size is less than 8 EiB")
    return int(size)


def format_size(size: int) -> str:
    """``size`` bytes exactly, in the largest unit that divides it: 5368709120 → ``5GiB``, 1500 → ``1500``."""
    if size < 0:
        raise ValueError("a size is not negative")
    fitting = [unit for unit in _SIZE_NAMES if size and size % _BYTES[unit] == 0]
    if not fitting:
        return str(size)
    unit = max(fitting, key=_BYTES.__getitem__)
    return f"{size // _BYTES[unit]}{_SIZE_NAMES[unit]}"


def human_size(size: int) -> str:
    """``size`` bytes in three or four digits: 794 B, 1.50 KiB, 99.1 MiB, 1023 GiB."""
    value, power = float(size), 0
    while value >= 1023.5 and power < len(_BINARY) - 1:
        value, power = value / 1024, power + 1
    if not power:
        return f"{size} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_BINARY[power]}"
