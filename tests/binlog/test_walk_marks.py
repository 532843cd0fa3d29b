"""The marks that a walk leaves about a MiB apart: where they are, and what they say is before them."""

from __future__ import annotations

from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import EventType
from binlogd.binlog.walk import MARK_SPACING, Mark, Walk
from tests.binlog import builders
from tests.binlog.feeding import walk_in_pieces, walked
from tests.binlog.making import SID_A, SID_B, TIME, UUID_A, Log


def expected_marks(log: Log) -> list[int]:
    marks: list[int] = []
    for start in log.starts:
        if not marks or start - marks[-1] >= MARK_SPACING:
            marks.append(start)
    return marks


def test_marks_are_where_transactions_begin_about_a_mebibyte_apart() -> None:
    log = Log().begin_file()
    for gno in range(1, 41):
        log.transaction(gno, SID_A if gno % 3 else SID_B, "" if gno % 5 else "tag", sizes=(70_000, 70_000))
    walk = Walk(position=4, checksum=4)
    assert walk_in_pieces(walk, log.data[4:], repeat(100_000)) == b""
    offsets = [mark.offset for mark in walk.marks]
    assert offsets == expected_marks(log)
    assert 5 <= len(offsets) <= 6
    for mark in walk.marks:
        index = next(i for i, made in enumerate(log.events) if made.start == mark.offset)
        event = GtidEvent.decode(log.event(index), 4)
        assert (mark.sid, mark.tag, mark.gno) == (event.sid, event.tag, event.gno)
        assert mark.timestamp == TIME + index


@pytest.mark.parametrize("gtids", [None, "anonymous"])
def test_marks_without_gtids_name_place_and_time_all_the_same(gtids: str | None) -> None:
    """As in the files of MySQL 5.6, where BEGIN is the first event of a transaction."""
    log = Log(version="5.6.24").begin_file()
    starts = []
    for _ in range(6):
        starts.append(log.events[-1].end)
        if gtids:
            log.gtid(0)
        log.query(b"BEGIN")
        log.rows(500_000)
        log.xid()
        log.stop()
        starts[-1] = log.events[-5 if gtids else -4].start
    walk = walked(log)
    assert [mark.offset for mark in walk.marks] == [starts[0], starts[3]]
    for mark in walk.marks:
        index = next(i for i, made in enumerate(log.events) if made.start == mark.offset)
        assert mark == Mark(mark.offset, TIME + index, b"", "", 0, None if mark.offset > starts[0] else GtidSet())


def test_a_mark_does_not_borrow_the_gtid_of_the_transaction_before() -> None:
    log = Log().begin_file().transaction(1, SID_B, "t", sizes=(400_000, 700_000))
    start = log.position
    log.query(b"BEGIN")
    log.xid()
    walk = walked(log)
    assert walk.marks[-1] == Mark(start, TIME + len(log.events) - 2, b"", "", 0, log.set)


@given(
    st.lists(st.tuples(st.sampled_from([SID_A, SID_B]), st.sampled_from(["", "t"]), st.integers(1, 9)), max_size=25),
    st.sampled_from([0, 200, 500]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_mark_tells_the_gtids_since_the_mark_before(
    gtids: list[tuple[bytes, str, int]], spacing: int, asked: bool
) -> None:
    """However often somebody else has asked for GTIDs meanwhile."""
    log = Log().begin_file()
    for sid, tag, gno in gtids:
        log.statement(gno, sid, tag)
    walk = Walk(position=4, checksum=4, spacing=spacing)
    for event in log.each():
        walk.whole(event, 0, len(event))
        if asked:
            walk.take_gtids()
    begun = GtidSet()
    places = [mark.offset for mark in walk.marks]
    assert places == [start for i, start in enumerate(log.starts) if i == 0 or spacing == 0 or start in places], (
        "with no spacing every transaction has a mark"
    )
    for mark in walk.marks:
        assert mark.before == begun
        following = next(place for place in (*places, log.position) if place > mark.offset)
        begun = GtidSet.from_runs(
            (*gtid, gtid[2])
            for gtid, start in zip(log.gtids, log.starts, strict=True)
            if mark.offset <= start < following
        )


def unnamed(what: str) -> Log:
    """Three transactions, and something that no GTID names between the second and the third."""
    log = Log().begin_file().transaction(1).transaction(2)
    if what == "anonymous":
        log.transaction(0)
    elif what == "no GTID event":
        log.query(b"DROP TABLE t")
    elif what == "a variable":
        log.add(EventType.INTVAR, bytes(9))
        log.query(b"INSERT")
    elif what == "unfinished":
        log.gtid(3)
    elif what == "unfinished, with rows":
        log.gtid(3)
        log.query(b"BEGIN")
        log.rows()
    elif what == "anonymous, unfinished":
        log.gtid(0)
    elif what == "ROTATE":
        log.rotate()
    elif what == "PREVIOUS_GTIDS":
        log.previous()
    elif what == "MariaDB":
        log.put(builders.mariadb_gtid(0, 5, flags=1))
        log.query(b"DROP TABLE t")
    else:
        getattr(log, what)()
    return log.transaction(4).transaction(5)


@pytest.mark.parametrize(
    "what",
    [
        "anonymous",
        "no GTID event",
        "a variable",
        "unfinished",
        "unfinished, with rows",
        "anonymous, unfinished",
        "ROTATE",
        "PREVIOUS_GTIDS",
        "MariaDB",
    ],
)
def test_a_mark_behind_what_no_gtid_names_does_not_know_what_is_before_it(what: str) -> None:
    log = unnamed(what)
    walk = Walk(position=4, checksum=4, spacing=0)
    walk_in_pieces(walk, log.data[4:], ())
    befores = {mark.offset: mark.before for mark in walk.marks}
    assert [befores[log.starts[0]], befores[log.starts[1]]] == [GtidSet(), GtidSet.parse(f"{UUID_A}:1")]
    assert [befores[start] for start in log.starts[-2:]] in (
        [None, GtidSet.parse(f"{UUID_A}:4")],
        [GtidSet(), GtidSet.parse(f"{UUID_A}:4")],
    )
    assert None in befores.values()
    sparse = Walk(position=4, checksum=4, spacing=log.starts[-1] - log.starts[0])
    walk_in_pieces(sparse, log.data[4:], ())
    assert [mark.before for mark in sparse.marks] == [GtidSet(), None]


def test_what_is_neutral_between_transactions_is_left_out_with_them() -> None:
    log = unnamed("stop")
    walk = Walk(position=4, checksum=4, spacing=0)
    walk_in_pieces(walk, log.data[4:], ())
    assert [str(mark.before).rpartition(":")[2] for mark in walk.marks] == ["", "1", "2", "4"]
