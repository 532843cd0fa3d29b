"""CRC-32 of events: zlib's polynomial (protocol.md §5), by the fastest implementation at hand.

isal computes it with carry-less multiplication several times as fast as zlib, and has the same signature and
result; where it is not installed zlib serves. This is the only place that chooses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlib import crc32
else:
    try:
        from isal.isal_zlib import crc32
    except ImportError:
        from zlib import crc32

__all__ = ["crc32"]
