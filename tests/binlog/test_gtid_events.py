"""The events that carry GTIDs, MySQL's and MariaDB's."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog.gtid import EMPTY, GNO_MAX, GtidSet
from binlogd.binlog.gtid_events import (
    GtidEvent,
    MariadbGtid,
    MariadbGtidEvent,
    MariadbGtidList,
    PreviousGtids,
)
from binlogd.binlog.header import ChecksumAlgorithm, EventType, Header
from binlogd.errors import EventError
from tests.binlog import builders

A = bytes.fromhex("3e11fa4771ca11e19e33c80aa9429562")
TEXT_A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

OFF, CRC32 = ChecksumAlgorithm.OFF, ChecksumAlgorithm.CRC32
algorithms = st.sampled_from([OFF, CRC32])
sids = st.binary(min_size=16, max_size=16)
gnos = st.integers(1, GNO_MAX)
tags = st.from_regex(r"[a-z_][a-z0-9_]{0,31}", fullmatch=True)
s64 = st.integers(-(2**63), 2**63 - 1)


class TestPreviousGtids:
    @pytest.mark.parametrize("text", ["", f"{TEXT_A}:1-5:9", f"{TEXT_A}:1-5:tag:7"])
    @pytest.mark.parametrize("algorithm", [OFF, CRC32])
    def test_round_trip(self, text: str, algorithm: ChecksumAlgorithm) -> None:
        previous = PreviousGtids(GtidSet.parse(text))
        wire = previous.encode(server_id=3, algorithm=algorithm, timestamp=4, log_pos=200)
        assert PreviousGtids.decode(wire, algorithm.length) == previous
        assert Header.decode(wire) == Header(4, 35, 3, len(wire), 200, 0x80)
        assert wire[19 : len(wire) - algorithm.length] == previous.gtids.encode()

    def test_malformed(self) -> None:
        wire = builders.event(EventType.PREVIOUS_GTIDS, EMPTY.encode() + b"\0")
        with pytest.raises(EventError, match="a Previous_gtids event is malformed"):
            PreviousGtids.decode(wire, 4)


class TestGtid:
    @given(sids, gnos, st.integers(0, 255), algorithms)
    def test_of_5_6(self, sid: bytes, gno: int, flags: int, algorithm: ChecksumAlgorithm) -> None:
        wire = builders.gtid(sid, gno, clock=None, flags=flags, algorithm=algorithm)
        assert GtidEvent.decode(wire, algorithm.length) == GtidEvent(EventType.GTID, flags, sid, "", gno)

    @given(sids, gnos, s64, s64)
    def test_of_5_7(self, sid: bytes, gno: int, committed: int, number: int) -> None:
        made = GtidEvent.decode(builders.gtid(sid, gno, clock=(committed, number)), 4)
        assert made == GtidEvent(EventType.GTID, 1, sid, "", gno, committed, number)

    @given(
        st.integers(0, 2**55 - 1),
        st.none() | st.integers(0, 2**55 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**31 - 1),
        st.none() | st.integers(0, 2**31 - 1),
        st.none() | st.integers(0, 2**64 - 1),
    )
    def test_of_8_0(
        self, now: int, then: int | None, length: int, version: int, first: int | None, ticket: int | None
    ) -> None:
        commit = (now | (then is not None) << 55).to_bytes(7, "little")
        commit += b"" if then is None else then.to_bytes(7, "little")
        commit += builders.lenenc(length)
        commit += (version | (first is not None) << 31).to_bytes(4, "little")
        commit += b"" if first is None else first.to_bytes(4, "little")
        commit += b"" if ticket is None else ticket.to_bytes(8, "little")
        made = GtidEvent.decode(builders.gtid(A, 5, commit=commit), 4)
        assert made.immediate_commit_timestamp == now
        assert made.original_commit_timestamp == (now if then is None else then)
        assert made.transaction_length == length
        assert made.immediate_server_version == version
        assert made.original_server_version == (version if first is None else first)
        assert made.commit_group_ticket == ticket

    def test_older_8_0_ends_after_any_part(self) -> None:
        parts = [bytes(7), b"\x07", struct.pack("<I", 80034), bytes(8)]
        for count in range(len(parts) + 1):
            made = GtidEvent.decode(builders.gtid(A, 5, commit=b"".join(parts[:count])), 4)
            assert (made.immediate_commit_timestamp is not None) == (count > 0)
            assert (made.transaction_length is not None) == (count > 1)
            assert (made.immediate_server_version is not None) == (count > 2)
            assert (made.commit_group_ticket is not None) == (count > 3)

    def test_anonymous(self) -> None:
        made = GtidEvent.decode(builders.gtid(bytes(16), 0), 4)
        assert (made.type, made.gno, str(made)) == (EventType.ANONYMOUS_GTID, 0, "ANONYMOUS")

    @pytest.mark.parametrize("gno", [0, -1, GNO_MAX + 1])
    def test_numbers_out_of_range(self, gno: int) -> None:
        body = struct.pack("<B16sq", 0, A, gno)
        with pytest.raises(EventError, match="has the number"):
            GtidEvent.decode(builders.event(EventType.GTID, body), 4)

    def test_an_anonymous_transaction_with_a_number(self) -> None:
        body = struct.pack("<B16sq", 0, A, 1)
        with pytest.raises(EventError, match="an Anonymous_Gtid event has the number 1"):
            GtidEvent.decode(builders.event(EventType.ANONYMOUS_GTID, body), 4)

    def test_cut_short_within_a_part(self) -> None:
        whole = struct.pack("<B16sqBqq", 0, A, 5, 2, 0, 1) + bytes(7) + b"\x07" + bytes(4) + bytes(8)
        complete = {25, 42, 49, 50, 54, 62}
        for end in range(len(whole)):
            wire = builders.event(EventType.GTID, whole[:end])
            if end in complete:
                assert GtidEvent.decode(wire, 4).gno == 5
            else:
                with pytest.raises(EventError, match="cut short"):
                    GtidEvent.decode(wire, 4)


class TestGtidTagged:
    @given(sids, tags, gnos, s64, s64, st.integers(0, 2**64 - 1), algorithms)
    def test_every_field(
        self,
        sid: bytes,
        tag: str,
        gno: int,
        committed: int,
        number: int,
        length: int,
        algorithm: ChecksumAlgorithm,
    ) -> None:
        fields = [
            (4, committed),
            (5, number),
            (6, 66),
            (7, 77),
            (8, length),
            (9, 90704),
            (10, 80300),
            (11, 3),
        ]
        wire = builders.tagged_gtid(sid, tag, gno, fields, flags=1, algorithm=algorithm)
        assert GtidEvent.decode(wire, algorithm.length) == GtidEvent(
            EventType.GTID_TAGGED, 1, sid, tag, gno, committed, number, 66, 77, length, 90704, 80300, 3
        )

    def test_optional_fields(self) -> None:
        wire = builders.tagged_gtid(A, "tag", 5, [(4, 0), (5, 1), (6, 66), (8, 300), (9, 90704)])
        made = GtidEvent.decode(wire, 4)
        assert made.original_commit_timestamp == 66
        assert made.original_server_version == 90704
        assert made.commit_group_ticket is None
        assert str(made) == f"{TEXT_A}:tag:5"
        assert GtidEvent.decode(builders.tagged_gtid(A, "tag", 5), 4).transaction_length is None

    def test_fields_of_the_future(self) -> None:
        fields = [(4, 0), (12, 1), (13, 1)]
        assert GtidEvent.decode(builders.tagged_gtid(A, "tag", 5, fields, needed=12), 4).last_committed == 0
        with pytest.raises(EventError, match="needs a reader that knows its field 12; upgrade"):
            GtidEvent.decode(builders.tagged_gtid(A, "tag", 5, fields, needed=13), 4)

    @pytest.mark.parametrize(
        ("wire", "reason"),
        [
            (builders.tagged_gtid(A, "tag", 0), "invalid GTID"),
            (builders.tagged_gtid(A, "tag", -5), "invalid GTID"),
            (builders.tagged_gtid(A, "tag", GNO_MAX + 1), "invalid GTID"),
            (builders.tagged_gtid(A, "Tag", 1), "invalid GTID"),
            (builders.tagged_gtid(A, "a" * 33, 1), "invalid GTID"),
            (builders.tagged_gtid(A, "tag", 1, [(5, 1), (4, 1)]), "field 4 after field 5"),
            (builders.tagged_gtid(A, "tag", 1, [(4, 1), (4, 1)]), "field 4 after field 4"),
            (builders.tagged_gtid(A, "tag", 1, [(3, 1)]), "field 3 after field 3"),
        ],
    )
    def test_malformed(self, wire: bytes, reason: str) -> None:
        with pytest.raises(EventError, match=reason):
            GtidEvent.decode(wire, 4)

    def test_every_truncation(self) -> None:
        whole = builders.tagged_gtid(A, "tag", 5, [(4, 0), (5, 1), (6, 66)])[19:-4]
        between_fields = {len(whole) - 6, len(whole) - 4, len(whole) - 2}
        for end in range(len(whole)):
            with pytest.raises(EventError):
                GtidEvent.decode(builders.event(EventType.GTID_TAGGED, whole[:end]), 4)
            patched = builders.event(EventType.GTID_TAGGED, (whole[:1] + builders.varlen(end) + whole[2:])[:end])
            if end in between_fields:
                assert GtidEvent.decode(patched, 4).gno == 5
            else:
                with pytest.raises(EventError):
                    GtidEvent.decode(patched, 4)

    def test_a_wrong_head(self) -> None:
        whole = builders.tagged_gtid(A, "tag", 5)[19:-4]
        for at, value, reason in [
            (0, 4, "serialization version 2"),
            (1, whole[1] + 2, "bytes of content"),
            (3, 8, "field 4 where field 0 belongs"),
        ]:
            wrong = whole[:at] + bytes((value,)) + whole[at + 1 :]
            with pytest.raises(EventError, match=reason):
                GtidEvent.decode(builders.event(EventType.GTID_TAGGED, wrong), 4)

    def test_a_uuid_of_large_numbers(self) -> None:
        body = bytes.fromhex("02 00 00 00 00 02") + builders.varlen(256) + bytes(30)
        body = body[:1] + builders.varlen(len(body)) + body[2:]
        with pytest.raises(EventError, match="UUID that is none"):
            GtidEvent.decode(builders.event(EventType.GTID_TAGGED, body), 4)


class TestMariadb:
    def test_gtid(self) -> None:
        made = MariadbGtidEvent.decode(builders.mariadb_gtid(3, 2**63, flags=0x29), 4)
        assert made == MariadbGtidEvent(MariadbGtid(3, builders.SERVER_ID, 2**63), 0x29, None)
        assert made.standalone
        assert str(made.gtid) == f"3-{builders.SERVER_ID}-{2**63}"

    def test_commit_id(self) -> None:
        wire = builders.mariadb_gtid(0, 1, flags=MariadbGtidEvent.GROUP_COMMIT_ID, tail=struct.pack("<Q", 99))
        made = MariadbGtidEvent.decode(wire, 4)
        assert made.commit_id == 99
        assert not made.standalone
        with pytest.raises(EventError, match="cut short"):
            MariadbGtidEvent.decode(builders.mariadb_gtid(0, 1, flags=2), 4)
        with pytest.raises(EventError, match="cut short"):
            MariadbGtidEvent.decode(builders.event(EventType.MARIADB_GTID, bytes(12)), 4)

    @given(
        st.lists(
            st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
            max_size=5,
        ),
        st.integers(0, 15),
    )
    def test_gtid_list(self, entries: list[tuple[int, int, int]], flags: int) -> None:
        made = MariadbGtidList.decode(builders.mariadb_gtid_list(entries, flags=flags), 4)
        assert made == MariadbGtidList(flags, tuple(MariadbGtid(*entry) for entry in entries))

    @pytest.mark.parametrize(
        "body",
        [b"", b"\x01\0\0", struct.pack("<I", 1) + bytes(15), struct.pack("<I", 1) + bytes(17), b"\xff" * 20],
    )
    def test_malformed_list(self, body: bytes) -> None:
        with pytest.raises(EventError):
            MariadbGtidList.decode(builders.event(EventType.MARIADB_GTID_LIST, body), 4)


DECODERS: dict[EventType, Callable[[bytes, int], object]] = {
    EventType.PREVIOUS_GTIDS: PreviousGtids.decode,
    EventType.GTID: GtidEvent.decode,
    EventType.ANONYMOUS_GTID: GtidEvent.decode,
    EventType.GTID_TAGGED: GtidEvent.decode,
    EventType.MARIADB_GTID: MariadbGtidEvent.decode,
    EventType.MARIADB_GTID_LIST: MariadbGtidList.decode,
}


@given(st.sampled_from(list(DECODERS)), st.binary(max_size=120), algorithms)
def test_any_body_is_read_or_refused(kind: EventType, body: bytes, algorithm: ChecksumAlgorithm) -> None:
    wire = builders.event(kind, body, algorithm=algorithm)
    builders.read_or_refused(DECODERS[kind], wire, algorithm.length)


@given(st.integers(2, 80), st.binary(min_size=1, max_size=9))
def test_any_damage_to_a_tagged_gtid_is_read_or_refused(at: int, patch: bytes) -> None:
    fields = [(4, 0), (5, 1), (6, 66), (8, 300), (9, 90704)]
    whole = builders.tagged_gtid(A, "tag", 5, fields)[19:-4]
    body = (whole[:at] + patch + whole[at + len(patch) :])[: len(whole)]
    builders.read_or_refused(GtidEvent.decode, builders.event(EventType.GTID_TAGGED, body))
