# What machine.py does, in C: see there. Included where it is used, so that the C compiler sees through it.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "machine.h" nogil:
    uint32_t binlogd_crc32(uint32_t crc, const uint8_t* at, size_t size)
    uint64_t binlogd_u64(const uint8_t* at)

cdef inline const uint8_t* raw(const uint8_t[::1] buffer) noexcept nogil:
    return &buffer[0]

cdef inline uint8_t* raw_out(uint8_t[::1] buffer) noexcept nogil:
    return &buffer[0]

cdef inline uint32_t u32(const uint8_t* view, Py_ssize_t at) noexcept nogil:
    return view[at] | <uint32_t>view[at + 1] << 8 | <uint32_t>view[at + 2] << 16 | <uint32_t>view[at + 3] << 24

cdef inline uint16_t u16(const uint8_t* view, Py_ssize_t at) noexcept nogil:
    return <uint16_t>(view[at] | view[at + 1] << 8)

cdef inline (uint32_t, uint8_t, uint32_t, uint32_t, uint16_t) header(const uint8_t* view, Py_ssize_t at) noexcept nogil:
    return u32(view, at), view[at + 4], u32(view, at + 9), u32(view, at + 13), u16(view, at + 17)

cdef inline (uint8_t, uint16_t) query(const uint8_t* view, Py_ssize_t at) noexcept nogil:
    return view[at + 8], u16(view, at + 11)

cdef inline (uint64_t, uint64_t, int64_t) gtid(const uint8_t* view, Py_ssize_t at) noexcept nogil:
    return binlogd_u64(view + at + 1), binlogd_u64(view + at + 9), <int64_t>binlogd_u64(view + at + 17)

cdef inline bint says(const uint8_t* view, Py_ssize_t at, const uint8_t* word, Py_ssize_t size) noexcept nogil:
    return memcmp(view + at, word, size) == 0

cdef inline void copy(uint8_t* out, Py_ssize_t to, const uint8_t* view, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    memcpy(out + to, view + at, size)

cdef inline uint32_t crc(const uint8_t* view, Py_ssize_t at, Py_ssize_t size, uint32_t before) noexcept nogil:
    return binlogd_crc32(before, view + at, size)

cdef inline (uint16_t, uint8_t, uint8_t) packet_head(const uint8_t* view, Py_ssize_t at) noexcept nogil:
    return u16(view, at), view[at + 2], view[at + 3]
