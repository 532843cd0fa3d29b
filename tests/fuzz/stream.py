"""A hostile dump: packets into events into a file, and out of the file into packets, compiled and in plain Python.

    flags1  raw?  semi-sync?  byte by byte?  whole transactions left out on the way out?
    then    raw: what the source sends; otherwise events behind their lengths, each led by how it is to be mended
            (1 an ACK is asked for, 2 its length and end stay as they are, 4 its checksum stays as it is)

Where both builds are there, both are given everything, and must say, store and keep the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

from binlogd import binlog
from binlogd.binlog import excerpt, framing, walk
from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.framing import room_for
from binlogd.binlog.gtid import GtidSet
from binlogd.errors import BinlogdError
from binlogd.store.layout import is_binlog_name
from tests.fuzz import shapes

HEADER = 19
FIRST = 4
FORMAT_DESCRIPTION, ROTATE = 15, 4
HAS = GtidSet.parse("11111111-1111-1111-1111-111111111111:1-1000000")
FOUND = ("position", "transaction_end", "transactions", "first_time", "last_time", "boundary", "type", "length")


@cache
def builds() -> tuple[tuple[ModuleType, ModuleType, ModuleType], ...]:
    """(walk, framing, excerpt): compiled, if they are, and plain."""
    compiled = walk, framing, excerpt
    if not binlog.compiled():
        return (compiled,)
    try:
        binlog.load_plain()
        plain = sys.modules[walk.__name__], sys.modules[framing.__name__], sys.modules[excerpt.__name__]
    finally:
        for name, module in zip(binlog.HOT, compiled, strict=True):
            sys.modules[module.__name__] = module
            setattr(binlog, name, module)
    return compiled, plain


def functions() -> Iterator[FunctionType]:
    """The hot modules' own functions in plain Python: loaded as they are, atheris does not see them."""
    for module in builds()[-1]:
        for owner in (module, *(one for one in vars(module).values() if isinstance(one, type))):
            for function in vars(owner).values():
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    yield function


def run(data: bytes) -> None:
    """See the package."""
    if not data:
        return
    stream = data[1:] if data[0] & 1 else _mended(data[1:], semi_sync=bool(data[0] & 2))
    piece = 1 if data[0] & 4 and len(stream) < 1000 else max(len(stream), 1)
    stored: list[bytes] = []
    said: list[list[Any]] = []
    for number, (walking, intaking, _) in enumerate(builds()):
        file, steps = _taken(walking, intaking, stream, piece, semi_sync=bool(data[0] & 2))
        assert len(file) <= len(stream)
        steps += _sent(intaking, file, HAS if data[0] & 8 else None)
        said.append(steps)
        stored.append(file)
        assert stored[number] == stored[0]
        assert said[number] == said[0]


def _mended(body: bytes, *, semi_sync: bool) -> bytes:
    """The packets of events whose lengths, ends and checksums are as they must be."""
    out, sequence = [], 1
    for mends, event in shapes.mended(body):
        head = bytes([0, 0xEF, mends & 1]) if semi_sync else b"\0"
        out.append(shapes.packet(head + event, sequence))
        sequence = 1 if semi_sync and mends & 1 else sequence + 1 & 0xFF
    return b"".join(out)


def _taken(
    walking: ModuleType, intaking: ModuleType, stream: bytes, piece: int, *, semi_sync: bool
) -> tuple[bytes, list[Any]]:
    """What is to be stored, and everything else that there is to see."""
    intake = intaking.Intake(semi_sync=semi_sync, sequence=1)
    buffer, out = bytearray(stream), memoryview(bytearray(len(stream)))
    steps: list[Any] = []
    checksum, at = 4, 0
    try:
        for end in range(piece, len(stream) + piece, piece):
            end = min(end, len(stream))
            stop = int(intaking.Stop.CONTROL)
            while stop == int(intaking.Stop.CONTROL):
                stop = int(intake.scan(buffer, at, end, out))
                assert at <= intake.consumed <= end
                at = intake.consumed
                steps.append((stop, at, intake.filled, bool(intake.ack_owed)))
                intake.ack_owed = False
                if stop:
                    steps.append(bytes(intake.event))
                if stop == int(intaking.Stop.CONTROL):
                    checksum = _control(intake, walking, checksum)
            if stop:
                break
    except BinlogdError as error:
        steps.append((type(error).__name__, error.message))
    if intake.walk is not None:
        steps += [[getattr(intake.walk, name) for name in FOUND], intake.walk.take_gtids(), list(intake.walk.marks)]
    steps[-2:] = [repr(step) for step in steps[-2:]]  # the builds' tuples are of different types
    return bytes(out[: intake.filled]), steps


def _control(intake: Any, walking: ModuleType, checksum: int) -> int:
    """As receiver/stream.py does, without a store; the length of checksums from here on."""
    event = intake.event
    if event[4] == ROTATE:
        is_binlog_name(Rotate.decode(event, checksum).name)
        intake.walk = None
    elif event[4] == FORMAT_DESCRIPTION:
        described = FormatDescription.decode(event)
        intake.walk = walking.Walk(position=FIRST + len(event), checksum=described.algorithm.length, spacing=0)
        return described.algorithm.length
    return checksum


def _sent(outgoing: ModuleType, file: bytes, has: GtidSet | None) -> list[Any]:
    """The file's bytes in packets, as a dump sends them."""
    outlet = outgoing.Outlet(sequence=1, covering=has.covering if has else None)
    outlet.position, outlet.checksum = FIRST, 4
    out = memoryview(bytearray(room_for(len(file))))
    steps: list[Any] = []
    at = 0
    try:
        while at < len(file):
            go_on = outlet.frame(bytearray(file), at, len(file), out)
            at += outlet.consumed
            steps.append((bool(go_on), at, outlet.position, bool(outlet.in_event), bytes(out[: outlet.filled])))
            outlet.skipped_to = 0
            if go_on and not outlet.consumed:
                break
    except BinlogdError as error:
        steps.append((type(error).__name__, error.message))
    return steps


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """From what real sources sent in dumps."""
    for name, stream in captures.items():
        if not name.startswith("dump-"):
            continue
        semi_sync = "semisync" in name
        marked = 3 if semi_sync else 1
        yield bytes([1 | 2 * semi_sync]) + stream[:8000]
        events: list[bytes] = []
        for _, payload in shapes.payloads(stream):
            event = payload[marked:]
            if payload[:1] == b"\0" and len(event) > HEADER:
                flagged = payload[2] & 1 if semi_sync else 0
                events.append(bytes([flagged]) + event[:-4])
        for at in range(0, min(len(events), 400), 20):
            yield bytes([2 * semi_sync + 8]) + shapes.join(events[:2] + events[max(at, 2) : at + 20])
