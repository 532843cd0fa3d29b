"""GtidSet against a model, Python's own ``set`` of (sid, tag, gno), in a world small enough for it."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.gtid import (
    EMPTY,
    GNO_MAX,
    Gtid,
    GtidSet,
    GtidSyntaxError,
    format_gtid,
    format_sid,
    parse_sid,
)

A = bytes.fromhex("3e11fa4771ca11e19e33c80aa9429562")
B = bytes.fromhex("ffffffff71ca11e19e33c80aa9429562")
TEXT_A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
TEXT_B = "ffffffff-71ca-11e1-9e33-c80aa9429562"

World = frozenset[tuple[bytes, str, int]]

gnos = st.integers(1, 14)
runs = st.tuples(st.sampled_from([A, B]), st.sampled_from(["", "a", "tag_1"]), gnos, gnos).map(
    lambda run: (run[0], run[1], min(run[2:]), max(run[2:]))
)
run_lists = st.lists(runs, max_size=12)
huge_runs = st.lists(
    st.tuples(
        st.binary(min_size=16, max_size=16),
        st.from_regex(r"([a-z_][a-z0-9_]{0,31})?", fullmatch=True),
        st.integers(1, GNO_MAX),
        st.integers(1, GNO_MAX),
    ).map(lambda run: (run[0], run[1], min(run[2:]), max(run[2:]))),
    max_size=8,
)


def world(members: list[tuple[bytes, str, int, int]]) -> World:
    return frozenset((sid, tag, gno) for sid, tag, first, last in members for gno in range(first, last + 1))


def expanded(gtids: GtidSet) -> World:
    return world(list(gtids.runs()))


def check_canonical(gtids: GtidSet) -> None:
    """No empty entry, sorted, merged."""
    for key, bounds in gtids._bounds.items():
        assert bounds and len(bounds) % 2 == 0, key
        assert list(bounds) == sorted(set(bounds)), key


class TestAlgebra:
    @given(run_lists, run_lists)
    @settings(max_examples=400)
    def test_every_operator_agrees_with_sets_of_gtids(
        self, left: list[tuple[bytes, str, int, int]], right: list[tuple[bytes, str, int, int]]
    ) -> None:
        a, b = GtidSet.from_runs(left), GtidSet.from_runs(right)
        model_a, model_b = world(left), world(right)
        for made, model in [
            (a, model_a),
            (a | b, model_a | model_b),
            (a & b, model_a & model_b),
            (a - b, model_a - model_b),
            (a.add_runs(right), model_a | model_b),
        ]:
            check_canonical(made)
            assert expanded(made) == model
            assert made.count() == len(model)
            assert bool(made) == bool(model)
        assert (a <= b) == (model_a <= model_b)
        assert (a < b) == (model_a < model_b)
        assert (a >= b) == (model_a >= model_b)
        assert (a == b) == (model_a == model_b)
        assert a.isdisjoint(b) == model_a.isdisjoint(model_b)
        if a == b:
            assert hash(a) == hash(b)

    @given(run_lists, runs)
    @settings(max_examples=400)
    def test_add_run(self, members: list[tuple[bytes, str, int, int]], run: tuple[bytes, str, int, int]) -> None:
        before = GtidSet.from_runs(members)
        after = before.add_run(*run)
        check_canonical(after)
        assert expanded(after) == world([*members, run])
        assert expanded(before) == world(members), "a set never changes"
        assert after == before | GtidSet.from_runs([run])

    @given(run_lists, st.sampled_from([A, B]), st.sampled_from(["", "a"]), gnos)
    @settings(max_examples=300)
    def test_contains_and_covering(
        self, members: list[tuple[bytes, str, int, int]], sid: bytes, tag: str, gno: int
    ) -> None:
        gtids, model = GtidSet.from_runs(members), world(members)
        assert gtids.contains(sid, tag, gno) == ((sid, tag, gno) in model)
        assert (format_gtid(sid, tag, gno) in gtids) == ((sid, tag, gno) in model)
        inside, last = gtids.covering(sid, tag, gno)
        assert inside == ((sid, tag, gno) in model)
        assert last >= gno
        for later in range(gno, min(last, 20) + 1):
            assert ((sid, tag, later) in model) == inside
        if last < GNO_MAX:
            assert ((sid, tag, last + 1) in model) != inside

    def test_covering_what_the_set_knows_nothing_of(self) -> None:
        assert EMPTY.covering(A, "", 1) == (False, GNO_MAX)
        whole = EMPTY.add_run(A, "", 1, GNO_MAX)
        assert whole.covering(A, "", 5) == (True, GNO_MAX)
        assert whole.covering(A, "t", 5) == (False, GNO_MAX)

    def test_the_number_of_gtids_does_not_matter(self) -> None:
        whole = EMPTY.add_run(A, "", 1, GNO_MAX)
        hole = whole - GtidSet.parse(f"{TEXT_A}:10-20")
        assert str(hole) == f"{TEXT_A}:1-9:21-{GNO_MAX}"
        assert hole.count() == GNO_MAX - 11
        assert hole <= whole and not whole <= hole
        assert hole | whole == whole

    def test_another_type_is_not_equal(self) -> None:
        assert EMPTY != ""
        assert GtidSet() == EMPTY

    @pytest.mark.parametrize(
        "run",
        [
            (A, "", 0, 1),
            (A, "", 2, 1),
            (A, "", 1, GNO_MAX + 1),
            (A[:15], "", 1, 1),
            (A, "T", 1, 1),
            (A, "1a", 1, 1),
            (A, "a" * 33, 1, 1),
        ],
    )
    def test_a_run_that_is_none(self, run: tuple[bytes, str, int, int]) -> None:
        with pytest.raises(ValueError, match=r"not a run|16 bytes|not a GTID's tag"):
            EMPTY.add_run(*run)
        with pytest.raises(ValueError, match=r"not a run|16 bytes|not a GTID's tag"):
            GtidSet.from_runs([run])


class TestText:
    @given(huge_runs)
    def test_what_is_printed_reads_the_same(self, members: list[tuple[bytes, str, int, int]]) -> None:
        gtids = GtidSet.from_runs(members)
        assert GtidSet.parse(str(gtids)) == gtids
        assert GtidSet.parse(gtids.compact().upper()) == gtids
        assert str(GtidSet.parse(str(gtids))) == str(gtids)

    def test_the_order_of_printing(self) -> None:
        gtids = GtidSet.parse(f"{TEXT_B}:7,{TEXT_A}:zz:3-4:1:abc:9:_x:5,{TEXT_A}:8:1-2")
        assert str(gtids) == f"{TEXT_A}:1-2:8:_x:5:abc:9:zz:1:3-4,\n{TEXT_B}:7"
        assert gtids.compact() == f"{TEXT_A}:1-2:8:_x:5:abc:9:zz:1:3-4,{TEXT_B}:7"
        assert repr(gtids) == f"GtidSet('{gtids.compact()}')"
        assert str(EMPTY) == ""

    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("", ""),
            (" \n\t", ""),
            (",, ,", ""),
            (f"{TEXT_A}", ""),
            (f"{TEXT_A}:tag", ""),
            (f"{TEXT_A}:5-3", ""),
            (f"{TEXT_A}:5-0", ""),
            (f" {TEXT_A.upper()} : 1 - 3 : 4 ", f"{TEXT_A}:1-4"),
            (f",{TEXT_A}:1,,\n{TEXT_A}:2,", f"{TEXT_A}:1-2"),
            (f"{TEXT_A}:9:5-7:1-5:6", f"{TEXT_A}:1-7:9"),
            (f"{TEXT_A}:1: Tag :2:3,{TEXT_A}:4", f"{TEXT_A}:1:4:tag:2-3"),
            (f"{TEXT_A}:1-{GNO_MAX}", f"{TEXT_A}:1-{GNO_MAX}"),
            (f"{TEXT_A}:{'a' * 32}:1", f"{TEXT_A}:{'a' * 32}:1"),
            (f"{TEXT_A.replace('-', '')}:1,{{{TEXT_A}}}:3", f"{TEXT_A}:1:3"),
        ],
    )
    def test_lenient_reading(self, text: str, canonical: str) -> None:
        assert str(GtidSet.parse(text)) == canonical

    @pytest.mark.parametrize(
        "text",
        [
            "nonsense",
            f"{TEXT_A[:-1]}:1",
            f"{TEXT_A}0:1",
            TEXT_A.replace("-", "", 1) + ":1",
            f"{{{TEXT_A}:1",
            f"{TEXT_A}}}:1",
            f"{{{TEXT_A.replace('-', '')}}}:1",
            f"{TEXT_A}:",
            f"{TEXT_A}::1",
            f"{TEXT_A}:0",
            f"{TEXT_A}:-1",
            f"{TEXT_A}:1-",
            f"{TEXT_A}:1-2-3",
            f"{TEXT_A}:1.5",
            f"{TEXT_A}:+1",
            f"{TEXT_A}:010",
            f"{TEXT_A}:0x10",
            f"{TEXT_A}:1 2",
            f"{TEXT_A}:٣",
            f"{TEXT_A}:{GNO_MAX + 1}",
            f"{TEXT_A}:1-{GNO_MAX + 1}",
            f"{TEXT_A}:{'9' * 5000}",
            f"{TEXT_A}:{'a' * 33}:1",
            f"{TEXT_A}:ta-g:1",
            f"{TEXT_A}:tág:1",
            f"{TEXT_A}:\u212a:1",
            f"{TEXT_A}:1\0",
            f"{TEXT_A}:1;{TEXT_B}:1",
            f":{TEXT_A}:1",
        ],
    )
    def test_malformed_text(self, text: str) -> None:
        with pytest.raises(GtidSyntaxError) as caught:
            GtidSet.parse(text)
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)

    @given(st.text(alphabet="0123456789abcdef-:, \nT_\x00é", max_size=80))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        for candidate in (text, f"{TEXT_A}:{text}"):
            try:
                gtids = GtidSet.parse(candidate)
            except GtidSyntaxError:
                continue
            check_canonical(gtids)


class TestGtid:
    def test_round_trip(self) -> None:
        for text in (f"{TEXT_A}:5", f"{TEXT_A}:tag:{GNO_MAX}"):
            assert str(Gtid.parse(text)) == text
        assert Gtid.parse(f" {TEXT_A.upper()}:Tag: 7 ") == (A, "tag", 7)
        assert format_sid(parse_sid(TEXT_B)) == TEXT_B

    @pytest.mark.parametrize(
        "text",
        ["", TEXT_A, f"{TEXT_A}:1-2", f"{TEXT_A}:1-1", f"{TEXT_A}:t", f"{TEXT_A}:1:2", f"{TEXT_A}:a:b:1"],
    )
    def test_not_one_gtid(self, text: str) -> None:
        with pytest.raises(GtidSyntaxError):
            Gtid.parse(text)
        with pytest.raises(GtidSyntaxError):
            assert text in EMPTY


def u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


TAGGED_HEAD_1 = bytes.fromhex("01 01 00 00 00 00 00 01")


class TestWire:
    def test_the_untagged_bytes(self) -> None:
        gtids = GtidSet.parse(f"{TEXT_B}:1,{TEXT_A}:1-3:7")
        wire = u64(2) + A + u64(2, 1, 4, 7, 8) + B + u64(1, 1, 2)
        assert gtids.encode() == wire
        assert GtidSet.decode(wire) == gtids
        assert GtidSet.decode(u64(2) + B + u64(1, 1, 2) + A + u64(2, 1, 4, 7, 8)) == gtids
        assert EMPTY.encode() == bytes(8)
        assert GtidSet.decode(bytes(8)) == EMPTY

    def test_the_tagged_bytes(self) -> None:
        gtids = GtidSet.parse(f"{TEXT_A}:5:ab:1-3")
        head = bytes.fromhex("01 02 00 00 00 00 00 01")
        wire = head + A + b"\0" + u64(1, 5, 6) + A + b"\x04ab" + u64(1, 1, 4)
        assert gtids.encode() == wire
        assert GtidSet.decode(wire) == gtids
        assert EMPTY.encode(tagged=True) == bytes.fromhex("01 00 00 00 00 00 00 01")

    def test_choosing_the_format(self) -> None:
        plain, tagged = GtidSet.parse(f"{TEXT_A}:5"), GtidSet.parse(f"{TEXT_A}:t:5")
        assert not plain.tagged and tagged.tagged
        assert plain.encode(tagged=True) == TAGGED_HEAD_1 + A + b"\0" + u64(1, 5, 6)
        assert plain.encode(tagged=False) == plain.encode()
        with pytest.raises(ValueError, match="tags"):
            tagged.encode(tagged=False)

    @given(huge_runs, st.booleans())
    def test_round_trip(self, members: list[tuple[bytes, str, int, int]], tagged: bool) -> None:
        gtids = GtidSet.from_runs(members)
        wire = gtids.encode(tagged=True if tagged else None)
        assert GtidSet.decode(wire) == gtids
        assert GtidSet.decode(memoryview(bytearray(wire))) == gtids
        assert GtidSet.decode(wire).encode(tagged=True if tagged else None) == wire

    @given(huge_runs, st.booleans())
    @settings(max_examples=40)
    def test_every_truncation_and_every_extra_byte_is_refused(
        self, members: list[tuple[bytes, str, int, int]], tagged: bool
    ) -> None:
        wire = GtidSet.from_runs(members).encode(tagged=True if tagged else None)
        for end in range(len(wire)):
            with pytest.raises(GtidSyntaxError):
                GtidSet.decode(wire[:end])
        with pytest.raises(GtidSyntaxError):
            GtidSet.decode(wire + b"\0")

    @pytest.mark.parametrize(
        "wire",
        [
            u64(1) + A + u64(1, 0, 2),
            u64(1) + A + u64(1, 2, 2),
            u64(1) + A + u64(1, 3, 2),
            u64(1) + A + u64(1, 1, 2**63),
            u64(1) + A + u64(1, 2**63, 2**64 - 1),
            u64(1) + A + u64(2, 5, 6, 1, 2),
            u64(1) + A + u64(2, 1, 3, 2, 4),
            u64(1) + A + u64(2, 1, 3, 3, 4),
            u64(1 << 56) + A + u64(1, 1, 2),
            u64(2 << 56 | 1 << 8 | 2) + A + b"\0" + u64(1, 1, 2),
            TAGGED_HEAD_1 + A + b"\x02T" + u64(1, 1, 2),
            TAGGED_HEAD_1 + A + b"\x021" + u64(1, 1, 2),
            TAGGED_HEAD_1 + A + b"\x02\xff" + u64(1, 1, 2),
            TAGGED_HEAD_1 + A + b"\x01" + u64(1, 1, 2),
            TAGGED_HEAD_1 + A + b"\x42" + b"a" * 33 + u64(1, 1, 2),
        ],
        ids=lambda wire: wire.hex()[-40:],
    )
    def test_malformed(self, wire: bytes) -> None:
        with pytest.raises(GtidSyntaxError):
            GtidSet.decode(wire)

    def test_repeated_and_empty_entries_are_merged(self) -> None:
        wire = u64(3) + A + u64(1, 1, 3) + B + u64(0) + A + u64(1, 2, 6)
        assert GtidSet.decode(wire) == GtidSet.parse(f"{TEXT_A}:1-5")

    @pytest.mark.parametrize(
        "wire",
        [
            u64(2**56 - 1) + bytes(64),
            bytes.fromhex("01 ff ff ff ff ff ff 01") + bytes(64),
            u64(1) + A + u64(2**64 - 1) + bytes(64),
            u64(1) + A + u64(2**60) + bytes(64),
        ],
    )
    def test_a_claimed_count_takes_no_memory(self, wire: bytes) -> None:
        tracemalloc.start()
        try:
            with pytest.raises(GtidSyntaxError):
                GtidSet.decode(wire)
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()

    @given(st.binary(max_size=200), st.booleans())
    def test_any_bytes_are_read_or_refused(self, data: bytes, tagged: bool) -> None:
        for candidate in (data, (TAGGED_HEAD_1 if tagged else u64(1)) + data):
            try:
                gtids = GtidSet.decode(candidate)
            except GtidSyntaxError:
                continue
            check_canonical(gtids)
