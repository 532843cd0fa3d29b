"""Sets of MySQL's global transaction identifiers.

A GTID is ``sid:gno`` or, since MySQL 8.3, ``sid:tag:gno``: the UUID of the server where it began, an optional
tag, and a number from 1 to 2**63 - 2 (``GNO_END`` in sql/rpl_gtid.h is 2**63 - 1 and never used).

A set holds, per (sid, tag), a strictly increasing tuple of *boundaries* ``(b0, b1, b2, b3, …)`` which stands
for the half-open intervals ``[b0, b1) ∪ [b2, b3) ∪ …``, the same numbers the wire carries. Everything follows
from parity: a gno is in the set when an odd number of boundaries is ≤ gno. Strictly increasing means that
neighbours are merged and no interval is empty, so equal sets have equal tuples. A (sid, tag) without
boundaries is left out.

Text (sql/rpl_gtid_set.cc, ``Gtid_set::add_gtid_text`` and ``to_string``)::

    set   = [entry] {"," [entry]}       entry = uuid {":" (tag | first ["-" last])}

An interval belongs to the tag before it, or to none. Printed, UUIDs are in lower case and in order, the
untagged intervals come before the tags, and ``,\\n`` stands between UUIDs.

Wire (COM_BINLOG_DUMP_GTID, PREVIOUS_GTIDS; ``Gtid_set::encode``), all integers 8 bytes, little-endian::

    untagged   n_sids                     {uuid16                 n_intervals {start end}}
    tagged     01, n_tsids (6 bytes), 01  {uuid16 len<<1 (1) tag  n_intervals {start end}}
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from struct import Struct, pack, unpack_from
from typing import Final, NamedTuple, final

GNO_MAX: Final = 2**63 - 2  # the largest a transaction can have; the boundary behind it is 2**63 - 1
TAG_MAX: Final = 32  # characters: mysql/gtid/gtid_constants.h, tag_max_length

FEW_RUNS: Final = 8  # more than so many at a time are merged, not put in one by one

_TAGGED_FORMAT: Final = 1  # mysql::gtid::Gtid_format::tagged, in the first and the last byte of the head
_COUNT_MASK: Final = 2**48 - 1

_UUID = re.compile(r"[0-9a-f]{32}|(\{)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?(1)\})", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
_INTERVAL = re.compile(r"([1-9][0-9]{0,18})(?:\s*-\s*(0|[1-9][0-9]{0,18}))?", re.ASCII)
_SPACE = " \t\n\v\f\r"

_u64 = Struct("<Q")

Key = tuple[bytes, str]
Bounds = tuple[int, ...]

# Which of the four cases (in neither, only in a, only in b, in both) belong to the result.
_UNION = (False, True, True, True)
_INTERSECTION = (False, False, False, True)
_DIFFERENCE = (False, True, False, False)


class GtidSyntaxError(ValueError):
    """A GTID or a GTID set, as text or as bytes, is malformed."""


class Gtid(NamedTuple):
    """One transaction: ``sid`` 16 bytes, ``tag`` lower case or empty, ``gno`` 1 to 2**63 - 2."""

    sid: bytes
    tag: str
    gno: int

    @classmethod
    def parse(cls, text: str) -> Gtid:
        """Read ``uuid:gno`` or ``uuid:tag:gno``; GtidSyntaxError for anything else, a range included."""
        match text.split(":"):
            case [uuid, number]:
                tag = ""
            case [uuid, tag, number]:
                tag = _parse_tag(tag)
            case _:
                raise GtidSyntaxError(f"not a GTID: {_shown(text)}; uuid:number or uuid:tag:number is wanted")
        first, end = _parse_interval(number)
        if end != first + 1 or "-" in number:
            raise GtidSyntaxError(f"not a single GTID: {_shown(text)}")
        return cls(parse_sid(uuid), tag, first)

    def __str__(self) -> str:
        return format_gtid(self.sid, self.tag, self.gno)


def parse_sid(text: str) -> bytes:
    """The 16 bytes of a UUID with dashes, dashes and braces, or neither; GtidSyntaxError otherwise."""
    text = text.strip(_SPACE)
    if not _UUID.fullmatch(text):
        raise GtidSyntaxError(f"not a UUID: {_shown(text)}")
    return bytes.fromhex(text.strip("{}").replace("-", ""))


def format_sid(sid: bytes) -> str:
    """``sid`` (16 bytes) as MySQL prints a UUID: 36 characters in lower case."""
    digits = sid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def format_gtid(sid: bytes, tag: str, gno: int) -> str:
    """One GTID as MySQL prints it."""
    return f"{format_sid(sid)}:{tag}:{gno}" if tag else f"{format_sid(sid)}:{gno}"


def valid_tag(tag: str) -> bool:
    """Whether ``tag`` is what MySQL keeps as a tag: 1 to 32 of a-z, 0-9 and _, not beginning with a digit."""
    return _TAG.fullmatch(tag) is not None


@final
class GtidSet:
    """An immutable set of GTIDs. Operations that change nothing may return ``self``.

    ``|``, ``&``, ``-`` are union, intersection, difference; ``<=`` is "subset of"; all are merges, linear in
    the number of intervals and independent of the number of GTIDs.
    """

    __slots__ = ("_bounds",)

    _bounds: dict[Key, Bounds]

    def __init__(self) -> None:
        """The empty set. The others come from parse, decode, from_runs and the operators."""
        self._bounds = {}

    @classmethod
    def _of(cls, bounds: dict[Key, Bounds]) -> GtidSet:
        made = cls.__new__(cls)
        made._bounds = bounds
        return made

    @classmethod
    def from_runs(cls, runs: Iterable[tuple[bytes, str, int, int]]) -> GtidSet:
        """The union of ``(sid, tag, first, last)``, inclusive, in any order; ValueError if one is wrong."""
        found: dict[Key, list[tuple[int, int]]] = {}
        for sid, tag, first, last in runs:
            if not 0 < first <= last <= GNO_MAX:
                raise ValueError(f"not a run of GTIDs: {first}-{last}")
            found.setdefault((sid, tag), []).append((first, last + 1))
        for sid, tag in found:
            _check_key(sid, tag)
        return cls._of({key: _merged(intervals) for key, intervals in found.items()})

    # text

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Read a set as MySQL does: any case, white space, empty entries, overlaps, any order.

        As there, ``5-3`` stands for nothing. Unlike there a number that begins with 0 is an error: MySQL
        takes it for octal or hexadecimal, which nobody means. Raises GtidSyntaxError.
        """
        found: dict[Key, list[tuple[int, int]]] = {}
        for entry in text.split(","):
            uuid, *items = entry.split(":")
            if not items and not uuid.strip(_SPACE):
                continue
            sid = parse_sid(uuid)
            tag = ""
            for item in items:
                item = item.strip(_SPACE)
                if item[:1].isalpha() or item[:1] == "_":
                    tag = _parse_tag(item)
                    continue
                first, end = _parse_interval(item)
                if end > first:
                    found.setdefault((sid, tag), []).append((first, end))
        return cls._of({key: _merged(intervals) for key, intervals in found.items()})

    def __str__(self) -> str:
        """What ``@@gtid_executed`` shows: ``,`` and a new line between UUIDs."""
        return self._format(",\n")

    def compact(self) -> str:
        """The same on one line, as in ``mysqlbinlog --include-gtids``."""
        return self._format(",")

    def __repr__(self) -> str:
        return f"GtidSet({self.compact()!r})"

    def _format(self, between: str) -> str:
        parts: list[str] = []
        previous = b""
        for (sid, tag), bounds in sorted(self._bounds.items()):
            if sid != previous:
                parts.append((between if previous else "") + format_sid(sid))
                previous = sid
            if tag:
                parts.append(f":{tag}")
            starts = iter(bounds)
            for first, end in zip(starts, starts, strict=True):
                parts.append(f":{first}" if end == first + 1 else f":{first}-{end - 1}")
        return "".join(parts)

    # wire

    def encode(self, *, tagged: bool | None = None) -> bytes:
        """The wire form; ``tagged`` None chooses the tagged one only if there is a tag, as MySQL does.

        Raises ValueError if ``tagged`` is False and there is one: leaving it out would change the set.
        """
        has_tags = self.tagged
        if tagged is None:
            tagged = has_tags
        elif has_tags and not tagged:
            raise ValueError("a GTID set with tags cannot be encoded without them")
        count = len(self._bounds)
        parts = [_u64.pack(_TAGGED_FORMAT << 56 | count << 8 | _TAGGED_FORMAT if tagged else count)]
        for (sid, tag), bounds in sorted(self._bounds.items()):
            parts.append(sid)
            if tagged:
                parts.append(bytes((len(tag) << 1,)) + tag.encode())
            parts.append(pack(f"<{len(bounds) + 1}Q", len(bounds) // 2, *bounds))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> GtidSet:
        """Read either wire form, which must fill ``data`` exactly; GtidSyntaxError if it is malformed.

        UUIDs may come in any order and repeat (clients build them from hash maps), intervals may not: they
        must rise and leave gaps, which is MySQL's own rule. Memory is bounded by the length of ``data``,
        whatever counts it claims.
        """
        view = memoryview(data)
        if len(view) < 8:
            raise GtidSyntaxError(f"a GTID set's encoding ends after {len(view)} bytes, within its count")
        (count,) = _u64.unpack_from(view)
        tagged = count >> 56 != 0
        if tagged:
            if count >> 56 != _TAGGED_FORMAT or count & 0xFF != _TAGGED_FORMAT:
                raise GtidSyntaxError(f"a GTID set's encoding has the unknown format {view[:8].hex()}")
            count = count >> 8 & _COUNT_MASK
        if count * (25 if tagged else 24) > len(view) - 8:
            raise GtidSyntaxError(f"a GTID set's encoding claims {count} UUIDs in {len(view)} bytes")
        result: dict[Key, Bounds] = {}
        at = 8
        for _ in range(count):
            sid, tag, at = _decode_tsid(view, at, tagged)
            if len(view) - at < 8:
                raise GtidSyntaxError("a GTID set's encoding ends before a count of intervals")
            (intervals,) = _u64.unpack_from(view, at)
            at += 8
            if intervals * 16 > len(view) - at:
                raise GtidSyntaxError(f"a GTID set's encoding ends within the intervals of {format_sid(sid)}")
            bounds: Bounds = unpack_from(f"<{intervals * 2}Q", view, at)
            at += intervals * 16
            if not bounds:
                continue
            if bounds[0] < 1 or bounds[-1] > GNO_MAX + 1 or any(a >= b for a, b in pairwise(bounds)):
                raise GtidSyntaxError(f"a GTID set's encoding has intervals out of order: {format_sid(sid)}")
            known = result.get((sid, tag))
            result[sid, tag] = _combine(known, bounds, _UNION) if known else bounds
        if at != len(view):
            raise GtidSyntaxError(f"a GTID set's encoding is followed by {len(view) - at} other bytes")
        return cls._of(result)

    # asking

    @property
    def tagged(self) -> bool:
        """Whether any GTID in the set has a tag."""
        return any(tag for _, tag in self._bounds)

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __eq__(self, other: object) -> bool:
        return self._bounds == other._bounds if isinstance(other, GtidSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._bounds.items()))

    def count(self) -> int:
        """How many GTIDs the set holds."""
        return sum(sum(bounds[1::2]) - sum(bounds[::2]) for bounds in self._bounds.values())

    def contains(self, sid: bytes, tag: str, gno: int) -> bool:
        """Whether the set holds this GTID."""
        bounds = self._bounds.get((sid, tag))
        return bounds is not None and bisect_right(bounds, gno) & 1 == 1

    def __contains__(self, gtid: str) -> bool:
        """Whether the set holds ``uuid:5`` or ``uuid:tag:5``; GtidSyntaxError if that is not a GTID."""
        return self.contains(*Gtid.parse(gtid))

    def covering(self, sid: bytes, tag: str, gno: int) -> tuple[bool, int]:
        """Whether the set holds this GTID, and the last gno (inclusive) for which the answer is the same.

        A scanner keeps the answer until it meets another (sid, tag), a smaller gno, or one beyond that.
        """
        bounds = self._bounds.get((sid, tag), ())
        at = bisect_right(bounds, gno)
        return at & 1 == 1, bounds[at] - 1 if at < len(bounds) else GNO_MAX

    def runs(self) -> Iterator[tuple[bytes, str, int, int]]:
        """The intervals as ``(sid, tag, first, last)``, inclusive, in the order in which they are printed."""
        for (sid, tag), bounds in sorted(self._bounds.items()):
            starts = iter(bounds)
            for first, end in zip(starts, starts, strict=True):
                yield sid, tag, first, end - 1

    # algebra

    def add_run(self, sid: bytes, tag: str, first: int, last: int) -> GtidSet:
        """This set and ``sid:tag:first-last``, inclusive; ValueError if that is not a run of GTIDs.

        Done at every publication: it copies the dict of keys, not what they hold, and replaces one tuple.
        """
        if not 0 < first <= last <= GNO_MAX:
            raise ValueError(f"not a run of GTIDs: {first}-{last}")
        key = (sid, tag)
        old = self._bounds.get(key)
        bounds = self._bounds.copy()
        if old is None:
            _check_key(sid, tag)
            bounds[key] = (first, last + 1)
        elif len(old) == 2 and old[1] == first:  # the next transactions of a set without gaps: nearly always
            bounds[key] = (old[0], last + 1)
        else:
            # Every boundary from first to last + 1 goes, for it lies in the run or touches it. Each end of
            # the run becomes a boundary itself unless the set goes on there: the parity of its place tells.
            end = last + 1
            left = bisect_left(old, first)
            right = bisect_right(old, end)
            ends = (() if left & 1 else (first,)) + (() if right & 1 else (end,))
            bounds[key] = old[:left] + ends + old[right:]
        return GtidSet._of(bounds)

    def add_runs(self, runs: Iterable[tuple[bytes, str, int, int]]) -> GtidSet:
        """This set and each ``(sid, tag, first, last)``, inclusive, in any order; ValueError as above."""
        runs = list(runs)
        if len(runs) > FEW_RUNS:
            return self | GtidSet.from_runs(runs)
        result = self
        for run in runs:
            result = result.add_run(*run)
        return result

    def __or__(self, other: GtidSet) -> GtidSet:
        if not other._bounds:
            return self
        if not self._bounds:
            return other
        bounds = self._bounds.copy()
        for key, theirs in other._bounds.items():
            mine = bounds.get(key)
            bounds[key] = _combine(mine, theirs, _UNION) if mine else theirs
        return GtidSet._of(bounds)

    def __and__(self, other: GtidSet) -> GtidSet:
        bounds = {}
        for key, mine in self._bounds.items():
            theirs = other._bounds.get(key)
            if theirs and (both := _combine(mine, theirs, _INTERSECTION)):
                bounds[key] = both
        return GtidSet._of(bounds)

    def __sub__(self, other: GtidSet) -> GtidSet:
        bounds = {}
        for key, mine in self._bounds.items():
            theirs = other._bounds.get(key)
            if left := _combine(mine, theirs, _DIFFERENCE) if theirs else mine:
                bounds[key] = left
        return GtidSet._of(bounds)

    def __le__(self, other: GtidSet) -> bool:
        for key, mine in self._bounds.items():
            theirs = other._bounds.get(key)
            if theirs is None or _combine(mine, theirs, _DIFFERENCE):
                return False
        return True

    def __lt__(self, other: GtidSet) -> bool:
        return self != other and self <= other

    def isdisjoint(self, other: GtidSet) -> bool:
        """Whether the two sets have no GTID in common."""
        return not self & other


EMPTY: Final = GtidSet()


def _combine(a: Bounds, b: Bounds, keep: tuple[bool, bool, bool, bool]) -> Bounds:
    """Sweep over the boundaries of both; write one wherever ``keep`` of (in a, in b) changes."""
    if a == b:
        return a if keep[3] else ()
    if len(b) == 2 and b[0] <= a[0] and a[-1] <= b[1]:  # a within b, as a file's in gtid_executed
        return b if keep[2] else a if keep[3] else ()
    same = min(len(a), len(b)) - 2 & ~1
    if same > 0 and a[:same] == b[:same]:  # one grew out of the other: only the ends need the sweep
        rest = _combine(a[same:], b[same:], keep)
        return a[:same] + rest if keep[3] else rest
    result = []
    i = j = 0
    beyond = GNO_MAX + 2
    inside = False
    while i < len(a) or j < len(b):
        x = a[i] if i < len(a) else beyond
        y = b[j] if j < len(b) else beyond
        i += x <= y
        j += y <= x
        if keep[(i & 1) | (j & 1) << 1] != inside:
            inside = not inside
            result.append(x if x < y else y)
    return tuple(result)


def _merged(intervals: list[tuple[int, int]]) -> Bounds:
    """Boundaries of the union of half-open, non-empty intervals in any order."""
    intervals.sort()
    result: list[int] = []
    for first, end in intervals:
        if result and first <= result[-1]:
            if end > result[-1]:
                result[-1] = end
        else:
            result += (first, end)
    return tuple(result)


def _check_key(sid: bytes, tag: str) -> None:
    if len(sid) != 16:
        raise ValueError(f"a source's UUID has 16 bytes, not {len(sid)}")
    if tag and not valid_tag(tag):
        raise ValueError(f"not a GTID's tag: {_shown(tag)}")


def _parse_tag(text: str) -> str:
    tag = text.strip(_SPACE).lower()
    if not (text.isascii() and valid_tag(tag)):  # the Kelvin sign lowers to an ASCII k
        raise GtidSyntaxError(f"not a GTID's tag: {_shown(text)}; 1 to {TAG_MAX} letters, digits, _ are allowed")
    return tag


def _parse_interval(text: str) -> tuple[int, int]:
    """``first[-last]`` as a half-open interval, which is empty when last < first."""
    found = _INTERVAL.fullmatch(text.strip(_SPACE))
    if not found:
        raise GtidSyntaxError(f"not a GTID's number or interval: {_shown(text)}")
    first = int(found[1])
    last = int(found[2] or first)
    if first > GNO_MAX or last > GNO_MAX:
        raise GtidSyntaxError(f"a GTID's number is too large: {_shown(text)}; the largest is {GNO_MAX}")
    return first, last + 1


def _decode_tsid(view: memoryview, at: int, tagged: bool) -> tuple[bytes, str, int]:
    """The UUID and tag that begin at ``at``, and where they end."""
    sid = bytes(view[at : at + 16])
    at += 16
    if len(sid) < 16 or (tagged and at >= len(view)):
        raise GtidSyntaxError("a GTID set's encoding ends within a UUID")
    if not tagged:
        return sid, "", at
    length = view[at] >> 1
    raw = bytes(view[at + 1 : at + 1 + length])
    tag = raw.decode("latin-1")
    # The length is a varlen integer, of which an odd first byte announces a second: never for a tag's.
    if view[at] & 1 or len(raw) < length or (length and not valid_tag(tag)):
        raise GtidSyntaxError(f"a GTID set's encoding has an invalid tag for {format_sid(sid)}")
    return sid, tag, at + 1 + length


def _shown(text: str) -> str:
    """``text`` for an error message: quoted, on one line, and short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
