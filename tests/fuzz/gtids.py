"""GTID sets, as text and as bytes, and their algebra.

flags1  1 the first is text, 2 the second is text  ·  then both, each behind its length
"""

from __future__ import annotations

from collections.abc import Iterator

from binlogd.binlog.gtid import Gtid, GtidSet, GtidSyntaxError
from tests.fuzz import shapes

A, B = "11111111-1111-1111-1111-111111111111", "bbbbbbbb-1111-1111-1111-111111111111"


def run(data: bytes) -> None:
    """See the package."""
    if not data:
        return
    first, second, *_ = [*shapes.split(data[1:]), b"", b""]
    a, b = _set(first, text=bool(data[0] & 1)), _set(second, text=bool(data[0] & 2))
    if a is None or b is None:
        return
    both, common, rest = a | b, a & b, a - b
    assert rest | common == a
    assert rest.isdisjoint(b)
    assert common <= a <= both
    assert common.count() + rest.count() == a.count()
    assert (a <= b) is (not rest)
    for one in (both, common, rest):
        _round_trip(one)


def _set(piece: bytes, *, text: bool) -> GtidSet | None:
    try:
        made = GtidSet.parse(piece.decode("utf-8", "replace")) if text else GtidSet.decode(piece)
    except GtidSyntaxError as error:
        assert len(str(error)) < 1000
        if text:
            try:
                Gtid.parse(piece.decode("utf-8", "replace"))
            except GtidSyntaxError:
                pass
        return None
    _round_trip(made)
    return made


def _round_trip(one: GtidSet) -> None:
    assert GtidSet.parse(str(one)) == one
    assert GtidSet.parse(one.compact()) == one
    assert GtidSet.decode(one.encode()) == one
    assert GtidSet.decode(one.encode(tagged=True)) == one
    assert GtidSet.from_runs(one.runs()) == one


def seeds(_captures: dict[str, bytes]) -> Iterator[bytes]:
    """Both forms, with and without tags."""
    texts = ("", f"{A}:1", f"{A}:1-5:7-9", f"{A}:1-5:tag:3,\n{B}:2", f"{B}:a:1-2:b:4:6-9223372036854775806")
    for first in texts:
        for second in texts:
            one, other = GtidSet.parse(first), GtidSet.parse(second)
            yield bytes([3]) + shapes.join([first.encode(), second.encode()])
            yield bytes([0]) + shapes.join([one.encode(), other.encode(tagged=True)])
