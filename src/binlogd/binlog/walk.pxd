# The types of walk.py in C. Whatever is not named here stays as it is in Python.

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from binlogd.binlog.machine cimport crc, gtid, header, query, raw, says

cdef int _QUERY, _ROTATE, _INTVAR, _RAND, _USER_VAR, _FORMAT_DESCRIPTION, _XID, _TABLE_MAP, _INCIDENT, _GTID, _ANONYMOUS_GTID
cdef int _PREVIOUS_GTIDS, _XA_PREPARE, _TRANSACTION_PAYLOAD, _GTID_TAGGED, _MARIADB_GTID, _MARIADB_QUERY_COMPRESSED
cdef int _MARIADB_STANDALONE
cdef int _NEUTRAL, _STARTS, _OPENS, _STATEMENT, _COMMITS, _PREPARES, _STAYS
cdef int _OUTSIDE, _PENDING, _INSIDE
cdef int64_t _HEADER, _WHOLE_LIMIT, _PREFIX, _MAX_EVENT, _GNO_MAX, _LOW
cdef uint32_t _SOUND
cdef bytes _MEANINGS
cdef const uint8_t* _MEANING


@cython.final
cdef class Walk:
    cdef public int64_t position, transaction_end, transactions, events
    cdef public int checksum, boundary, type
    cdef public int64_t first_time, last_time, length
    cdef public list marks
    cdef list _runs, _since
    cdef int64_t _last_mark, _spacing
    cdef bint _unnamed
    cdef uint64_t _run_sid1, _run_sid2
    cdef str _run_tag
    cdef bint _run_tagged
    cdef int64_t _run_first, _run_last
    cdef int64_t _group_start, _group_time
    cdef uint64_t _group_sid1, _group_sid2
    cdef str _group_tag
    cdef bint _group_tagged
    cdef int64_t _group_gno
    cdef int64_t _left
    cdef uint32_t _crc, _tail
    cdef int _meaning
    cdef uint32_t _time, _log_pos

    @cython.locals(taken=Py_ssize_t, view="const uint8_t*")
    cpdef Py_ssize_t walk(self, const uint8_t[::1] buffer, Py_ssize_t start, Py_ssize_t end) except -1
    @cython.locals(
        view="const uint8_t*", timestamp=uint32_t, kind=uint8_t, own_length=uint32_t, log_pos=uint32_t, _=uint16_t)
    cpdef int whole(self, const uint8_t[::1] buffer, Py_ssize_t at, int64_t length) except -1

    @cython.locals(
        at=Py_ssize_t, size=Py_ssize_t, timestamp=uint32_t, kind=uint8_t, length=uint32_t, log_pos=uint32_t, _=uint16_t)
    cdef Py_ssize_t _walk(self, const uint8_t* view, Py_ssize_t start, Py_ssize_t end) except -1 nogil
    @cython.locals(end=int64_t, checksum=int, meaning=int)
    cdef int take(self, const uint8_t* view, Py_ssize_t at, int64_t length,
                  uint32_t timestamp, uint8_t kind, uint32_t own_length, uint32_t log_pos) except -1 nogil
    cdef int64_t still_to_come(self) noexcept nogil
    cdef int begin_large(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t end) except -1 nogil
    @cython.locals(left=int64_t, body=Py_ssize_t, index=Py_ssize_t, octet=uint32_t)
    cdef int feed_large(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) except -1 nogil
    @cython.locals(timestamp=uint32_t, kind=uint8_t, length=uint32_t, log_pos=uint32_t, _=uint16_t)
    cdef int _begin(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t end) except -1 nogil
    cdef int _weigh(self, const uint8_t* view, Py_ssize_t at, int64_t length, Py_ssize_t end, int kind, int meaning,
                    uint32_t timestamp) except -1 nogil
    cdef int _misfit(self, int64_t length, uint32_t log_pos) except -1 nogil
    @cython.locals(timestamp=uint32_t)
    cdef int _finish(self) except -1 nogil
    cdef int _turn(self, int meaning) except -1 nogil
    @cython.locals(body=Py_ssize_t, size=int64_t, gno=int64_t)
    cdef int _group(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t end, int kind) except -1 nogil
    @cython.locals(schema=uint8_t, status=uint16_t, text=Py_ssize_t, size=int64_t)
    cdef int _statement(self, const uint8_t* view, Py_ssize_t at, int64_t length, Py_ssize_t end) except -1 nogil
    @cython.locals(gno=int64_t)
    cdef int _commit(self) except -1 nogil

    cdef int _tagged_group(self, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) except -1 with gil
    cdef int _mark(self) except -1 with gil
    cdef int _run(self) except -1 with gil
    cdef int _end_run(self) except -1
    cdef int _bad_length(self) except -1 with gil
    cdef int _bad_end(self) except -1 with gil
    cdef int _bad_checksum(self) except -1 with gil
    cdef int _bad_number(self, int64_t gno) except -1 with gil
    cdef int _cut_short(self, int kind) except -1 with gil
