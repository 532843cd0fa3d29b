"""What the hot modules ask of the machine: loads, copies and sums over buffers, here in plain Python.

walk.py and framing.py are written once. Where a C compiler was at hand they were compiled by Cython, after their .pxd
files, and then everything of this module is C instead (machine.pxd, machine.h): a view is an address, ``header`` four
loads, ``copy`` a memcpy. Where there was none they run as they are, and this module is what they import: a view is a
memoryview, ``header`` a Struct. Nothing else is written twice; tests/binlog runs both ways.

Nothing here looks whether ``at`` is within a buffer, since C would not: who calls has checked.
"""

from __future__ import annotations

from contextlib import nullcontext
from struct import Struct
from typing import TYPE_CHECKING

from binlogd.binlog.crc import crc32

# What is used of the compiler's own module, ``cython``, which is not there at run time.
compiled = False
nogil = nullcontext()

raw = memoryview
raw_out = memoryview

_u32 = Struct("<I").unpack_from

if TYPE_CHECKING:

    def header(view: memoryview, at: int) -> tuple[int, int, int, int, int]:
        """An event's (timestamp, type, length, log_pos, flags)."""

    def query(view: memoryview, at: int) -> tuple[int, int]:
        """Of a QUERY event's body the lengths of the schema's name and of the status variables."""

    def gtid(view: memoryview, at: int) -> tuple[int, int, int]:
        """Of a GTID event's body the SID as two numbers (``sid_bytes``), and the gno, signed."""

    def packet_head(view: memoryview, at: int) -> tuple[int, int, int]:
        """A packet's length, its low 16 bits and its high 8, and its sequence id."""

else:
    header = Struct("<IB4xIIH").unpack_from
    query = Struct("<8xBxxH").unpack_from
    gtid = Struct("<xQQq").unpack_from
    packet_head = Struct("<HBB").unpack_from


def u32(view: memoryview, at: int) -> int:
    """A little-endian number of four bytes."""
    number: int = _u32(view, at)[0]
    return number


def says(view: memoryview, at: int, word: bytes, size: int) -> bool:
    """Whether ``word``, which is ``size`` bytes long, stands there."""
    return view[at : at + size] == word


def copy(out: memoryview, to: int, view: memoryview, at: int, size: int) -> None:
    """Put ``view[at:at + size]`` into ``out[to:]``."""
    out[to : to + size] = view[at : at + size]


def crc(view: memoryview, at: int, size: int, before: int) -> int:
    """The CRC-32 of ``view[at:at + size]`` behind what has the CRC-32 ``before``, 0 for nothing."""
    return crc32(view[at : at + size], before)
