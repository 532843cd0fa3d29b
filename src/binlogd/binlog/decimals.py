"""DECIMAL as MySQL stores it in a USER_VAR event (``strings/decimal.cc``, decimal2bin).

precision1 scale1, then the digits in groups of nine, four bytes a group, big-endian; the first group of the integer
part and the last of the fraction may be shorter. The first bit is flipped, and of a negative number all are.
"""

from __future__ import annotations

from typing import Final

from binlogd.errors import EventError

GROUP: Final = 9  # digits in four bytes
_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # for so many digits


def decimal_text(value: bytes) -> str:
    """The number as mysqld prints it; EventError when the bytes are none."""
    if len(value) < 3:
        raise EventError(f"a DECIMAL of {len(value)} bytes is none")
    precision, scale = value[0], value[1]
    whole = precision - scale
    groups = [whole % GROUP] + [GROUP] * (whole // GROUP), [GROUP] * (scale // GROUP) + [scale % GROUP]
    if whole < 0 or sum(_BYTES[digits] for part in groups for digits in part) != len(value) - 2:
        raise EventError(f"a DECIMAL({precision},{scale}) does not fit into {len(value) - 2} bytes")
    negative = not value[2] & 0x80
    raw = bytes((value[2] ^ 0x80, *value[3:]))
    if negative:
        raw = bytes(byte ^ 0xFF for byte in raw)
    at, parts = 0, []
    for part in groups:
        text = ""
        for digits in part:
            if digits:
                text += f"{int.from_bytes(raw[at : at + _BYTES[digits]], 'big'):0{digits}d}"
                at += _BYTES[digits]
        parts.append(text)
    integer = parts[0].lstrip("0") or "0"
    return f"{'-' if negative else ''}{integer}{'.' + parts[1] if parts[1] else ''}"
