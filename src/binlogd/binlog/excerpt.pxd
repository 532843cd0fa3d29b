# The types of excerpt.py in C. Whatever is not named here stays as it is in Python.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from binlogd.binlog.machine cimport copy, crc, gtid, header, raw, raw_out, u32
from binlogd.binlog.walk cimport Walk

cdef int _GTID, _ANONYMOUS_GTID, _GTID_TAGGED, _MARIADB_GTID
cdef int _LOGICAL_CLOCK
cdef int64_t _CLOCK_AT, _TIMES_AT, _TIME_LENGTH, _HEADER, _WHOLE_LIMIT, _PREFIX, _LOW, _MICROSECONDS
cdef bytes _OWNS
cdef const uint8_t* _OWN


@cython.final
cdef class Excerpt:
    cdef public int checksum
    cdef public int64_t position, consumed, filled, settled, settled_position, transactions, group
    cdef public bint begun, ended
    cdef public Walk walk
    cdef int64_t _from_time, _to_time, _known, _until
    cdef object _covering
    cdef bint _chooses, _chosen, _leaves_out
    cdef uint64_t _sid1, _sid2
    cdef uint32_t _crc

    cpdef begin(self, Walk walk, object covering)
    cpdef stand(self, int64_t position)
    cpdef void drop(self) noexcept nogil
    @cython.locals(view="const uint8_t*", put="uint8_t*", walk=Walk)
    cpdef scan(self, const uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end, uint8_t[::1] out)

    @cython.locals(
        at=Py_ssize_t, size=int64_t, timestamp=uint32_t, kind=uint8_t, length=uint32_t, log_pos=uint32_t, _=uint16_t,
        whole=bint, starts=bint, own=int, had_begun=bint)
    cdef int _scan(
        self, Walk walk, const uint8_t* view, Py_ssize_t start, Py_ssize_t end, uint8_t* out) except -1 nogil
    cdef void _settle(self) noexcept nogil
    @cython.locals(
        body=Py_ssize_t, size=int64_t, named=bint, dated=bint, time=int64_t, sid1=uint64_t, sid2=uint64_t, gno=int64_t)
    cdef int _choose(self, Walk walk, const uint8_t* view, Py_ssize_t at, int64_t length, int kind) except -1 nogil
    @cython.locals(high=int64_t)
    cdef int64_t _commit_time(self, const uint8_t* view, Py_ssize_t at, int64_t size) noexcept nogil
    @cython.locals(to=int64_t, body=int64_t)
    cdef void _put(self, Walk walk, const uint8_t* view, Py_ssize_t at, int64_t length, uint8_t* out) noexcept nogil
    cdef void _place(self, uint8_t* out, int64_t to, int64_t size) noexcept nogil
    cdef void _put32(self, uint8_t* out, int64_t at, int64_t number) noexcept nogil
    cdef int _begin_large(
        self, Walk walk, const uint8_t* view, Py_ssize_t at, Py_ssize_t end, int64_t length, int own,
        uint8_t* out) except -1 nogil
    @cython.locals(body=int64_t)
    cdef int _piece(self, Walk walk, const uint8_t* view, Py_ssize_t at, int64_t size, uint8_t* out) except -1 nogil

    cdef int64_t _look_tagged(
        self, Walk walk, const uint8_t* view, Py_ssize_t at, int64_t length, int64_t time) except? -1 with gil
    cdef int _ask(self, uint64_t sid1, uint64_t sid2, int64_t gno) except -1 with gil
    cdef int _too_long(self, Walk walk, int64_t length) except -1 with gil
