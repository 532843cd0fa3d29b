# The types of framing.py in C. Whatever is not named here stays as it is in Python.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from binlogd.binlog.machine cimport copy, crc, gtid, header, packet_head, raw, raw_out, u32
from binlogd.binlog.walk cimport Walk

cdef int _ROTATE, _FORMAT_DESCRIPTION, _HEARTBEAT, _GTID, _ANONYMOUS_GTID, _PREVIOUS_GTIDS, _HEARTBEAT_V2, _GTID_TAGGED
cdef int _ARTIFICIAL
cdef int _MORE, _CONTROL, _ERROR, _END
cdef int64_t _HEADER, _WHOLE_LIMIT, _PREFIX, _MAX_PACKET, _ERROR_MOST, _GTID_PREFIX, _MAX_EVENT, _LOW
cdef bytes _HANDED_OUT
cdef const uint8_t* _APART


@cython.final
cdef class Intake:
    cdef public bint ack_owed
    cdef public int64_t consumed, filled
    cdef public bytes event
    cdef public Walk walk
    cdef int _prefix, _sequence
    cdef bint _flagged, _numbered, _continues
    cdef int64_t _packet_left

    @cython.locals(view="const uint8_t*", put="uint8_t*", walk=Walk, stop=int)
    cpdef scan(self, const uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end, uint8_t[::1] out)

    @cython.locals(
        at=Py_ssize_t, event=Py_ssize_t, size=Py_ssize_t, length=int, prefix=int, stop=int, low=int, high=int, sequence=int,
        timestamp=uint32_t, kind=uint8_t, own_length=uint32_t, log_pos=uint32_t, flags=uint16_t)
    cdef int _scan(
        self, Walk walk, const uint8_t* view, Py_ssize_t start, Py_ssize_t end, uint8_t* out) except -1 nogil
    @cython.locals(event=Py_ssize_t, size=int64_t, content=int64_t)
    cdef int _look(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t end, int length) except -1 nogil
    @cython.locals(body=Py_ssize_t)
    cdef int _prove(self, Walk walk, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) except -1 nogil
    cdef int _marked(self, const uint8_t* view, Py_ssize_t at) except -1 nogil
    cdef void _event_end(self) noexcept nogil
    @cython.locals(event=Py_ssize_t, kind=int, size=int64_t)
    cdef int _begin_large(
        self, Walk walk, const uint8_t* view, Py_ssize_t at, Py_ssize_t end, int length) except -1 nogil
    @cython.locals(left=int64_t)
    cdef int _continue(self, Walk walk, int length) except -1 nogil
    @cython.locals(whole=bint)
    cdef int _piece(self, Walk walk, const uint8_t* view, Py_ssize_t at, Py_ssize_t size, uint8_t* out) except -1 nogil

    cdef int _hand_out(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) except -1 with gil
    @cython.locals(first=int)
    cdef int _terminator(self, const uint8_t* view, Py_ssize_t at, int length) except -1 with gil
    cdef int _out_of_order(self, int sequence) except -1 with gil
    cdef int _no_mark(self) except -1 with gil
    cdef int _no_event(self, int length, int first) except -1 with gil
    cdef int _no_file(self, int kind) except -1 with gil
    cdef int _large_control(self, int length) except -1 with gil
    cdef int _bad_size(self, Walk walk, int length) except -1 with gil
    cdef int _bad_packet(self, int64_t size, int length) except -1 with gil
    cdef int _bad_control(self, Walk walk, int kind, Py_ssize_t size) except -1 with gil
    cdef int _bad_sum(self, Walk walk) except -1 with gil


@cython.final
cdef class Outlet:
    cdef public int sequence, checksum
    cdef public int64_t position, consumed, filled, skipped_to, event, limit, damaged, events
    cdef object _covering
    cdef bint _chooses, _excluded, _tagged, _dropping, _continues
    cdef uint64_t _sid1, _sid2
    cdef str _tag
    cdef int64_t _known, _until, _left, _packet_left
    cdef uint32_t _crc, _tail

    @cython.locals(view="const uint8_t*", put="uint8_t*", go_on=int)
    cpdef bint frame(self, const uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end, uint8_t[::1] out) except -1

    @cython.locals(at=Py_ssize_t, length=int64_t, go_on=int, whole=bint, kind=int)
    cdef int _frame(self, const uint8_t* view, Py_ssize_t start, Py_ssize_t end, uint8_t* out) except -1 nogil
    @cython.locals(log_pos=uint32_t)
    cdef int _look(self, const uint8_t* view, Py_ssize_t at, int64_t length) except -1 nogil
    @cython.locals(size=Py_ssize_t)
    cdef int _check(self, const uint8_t* view, Py_ssize_t at, int64_t length) except -1 nogil
    @cython.locals(at=int64_t)
    cdef void _head(self, uint8_t* out, int64_t length) noexcept nogil
    @cython.locals(size=int64_t)
    cdef Py_ssize_t _drop(self, Py_ssize_t available) noexcept nogil
    @cython.locals(size=int64_t)
    cdef Py_ssize_t _piece(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t end, uint8_t* out) except -1 nogil
    @cython.locals(left=int64_t, body=Py_ssize_t, index=Py_ssize_t, octet=uint32_t)
    cdef int _sum_up(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) except -1 nogil
    @cython.locals(body=Py_ssize_t, sid1=uint64_t, sid2=uint64_t, gno=int64_t)
    cdef int _choose(self, const uint8_t* view, Py_ssize_t at, int64_t size, int kind) except -1 nogil

    @cython.locals(sid1=uint64_t, sid2=uint64_t, gno=int64_t)
    cdef int _choose_tagged(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) except -1 with gil
    cdef int _ask(self, uint64_t sid1, uint64_t sid2, str tag, int64_t gno) except -1 with gil
    cdef int _cut_short(self) except -1 with gil
    cdef int _bad_length(self, int kind, int64_t length) except -1 with gil
    cdef int _bad_end(self, int kind, int64_t length, uint32_t log_pos) except -1 with gil
    cdef int _bad_checksum(self, int kind, int64_t length) except -1 with gil
    cdef int _bad_large(self) except -1 with gil
