/* CRC-32 (zlib's polynomial, reflected) for the compiled hot modules.

   Most events are shorter than 100 bytes, where the cost of a call through Python is several times that of the sum
   itself, and zlib's own is slow. A processor that multiplies without carries folds 16 bytes at a time: a block x
   that stands d bits before the next one may be replaced by x * (x^d mod P), whose halves are multiplied apart
   (Intel's "Fast CRC Computation Using PCLMULQDQ"). The last 16 bytes that are left, and everything on other processors,
   go through eight tables, eight bytes a step. tests/binlog/test_machine.py compares it with zlib's. */

#ifndef BINLOGD_MACHINE_H
#define BINLOGD_MACHINE_H

#include <stddef.h>
#include <stdint.h>

static uint32_t binlogd_crc_table[8][256];
static int binlogd_crc_folds;

__attribute__((constructor)) static void binlogd_crc_prepare(void) {
    for (uint32_t octet = 0; octet < 256; octet++) {
        uint32_t crc = octet;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        binlogd_crc_table[0][octet] = crc;
    }
    for (int table = 1; table < 8; table++)
        for (int octet = 0; octet < 256; octet++) {
            uint32_t crc = binlogd_crc_table[table - 1][octet];
            binlogd_crc_table[table][octet] = crc >> 8 ^ binlogd_crc_table[0][crc & 255];
        }
#if defined(__x86_64__)
    __builtin_cpu_init();
    binlogd_crc_folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

/* The state behind eight bytes, given as a little-endian number to which the state before them was added. */
static inline uint32_t binlogd_crc_eight(uint64_t word) {
    uint32_t(*table)[256] = binlogd_crc_table;
    return table[7][word & 255] ^ table[6][word >> 8 & 255] ^ table[5][word >> 16 & 255] ^ table[4][word >> 24 & 255] ^
           table[3][word >> 32 & 255] ^ table[2][word >> 40 & 255] ^ table[1][word >> 48 & 255] ^ table[0][word >> 56];
}

static inline uint64_t binlogd_u64(const uint8_t *at) {
    return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24 |
           (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56;
}

static inline uint32_t binlogd_crc_by_table(uint32_t state, const uint8_t *at, size_t size) {
    for (; size >= 8; at += 8, size -= 8)
        state = binlogd_crc_eight(binlogd_u64(at) ^ state);
    for (; size; at++, size--)
        state = state >> 8 ^ binlogd_crc_table[0][(state ^ *at) & 255];
    return state;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* x moved on by as many bits as the factor was made for, and the block that stands there added. */
#define BINLOGD_FOLD(x, factor, block)                                                                                 \
    _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, factor, 0x00), _mm_clmulepi64_si128(x, factor, 0x11)), block)

/* Read from byte n on: what moves the first n bytes of a block to its end, zeros before them. */
static const uint8_t binlogd_crc_shift[32] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x80, 0x80, 0x80, 0x80, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* At least 16 bytes. The first block is the one that is cut short, by zeros before it, which change no sum that begins
   with state 0: the state is added to the first four bytes, wherever they now stand. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t binlogd_crc_by_folding(
    uint32_t state, const uint8_t *at, size_t size) {
    const __m128i by_one = _mm_set_epi64x(0x0CCAA009E, 0x1751997D0);  /* x^(128-32), x^(128+32) mod P */
    const __m128i by_four = _mm_set_epi64x(0x1C6E41596, 0x154442BD4); /* x^(512-32), x^(512+32) mod P */
    const size_t lead = ((size - 1) & 15) + 1;
    const __m128i *block = (const __m128i *)(at + lead);
    size_t blocks = (size - lead) / 16;
    __m128i a = _mm_shuffle_epi8(
        _mm_xor_si128(_mm_loadu_si128((const __m128i *)at), _mm_cvtsi32_si128((int)state)),
        _mm_loadu_si128((const __m128i *)(binlogd_crc_shift + lead)));
    if (blocks) {
        const uint32_t rest = lead < 4 ? state >> 8 * lead : 0;
        a = BINLOGD_FOLD(a, by_one, _mm_xor_si128(_mm_loadu_si128(block++), _mm_cvtsi32_si128((int)rest)));
        blocks--;
    }
    if (blocks >= 7) { /* four chains at once, when that is worth joining them */
        __m128i b = _mm_loadu_si128(block), c = _mm_loadu_si128(block + 1), d = _mm_loadu_si128(block + 2);
        for (block += 3, blocks -= 3; blocks >= 4; block += 4, blocks -= 4) {
            a = BINLOGD_FOLD(a, by_four, _mm_loadu_si128(block));
            b = BINLOGD_FOLD(b, by_four, _mm_loadu_si128(block + 1));
            c = BINLOGD_FOLD(c, by_four, _mm_loadu_si128(block + 2));
            d = BINLOGD_FOLD(d, by_four, _mm_loadu_si128(block + 3));
        }
        a = BINLOGD_FOLD(BINLOGD_FOLD(BINLOGD_FOLD(a, by_one, b), by_one, c), by_one, d);
    }
    for (; blocks; blocks--)
        a = BINLOGD_FOLD(a, by_one, _mm_loadu_si128(block++));
    state = binlogd_crc_eight((uint64_t)_mm_cvtsi128_si64(a));
    return binlogd_crc_eight((uint64_t)_mm_extract_epi64(a, 1) ^ state);
}
#endif

/* As zlib's crc32: `crc` is that of what came before, 0 at the beginning. */
static inline uint32_t binlogd_crc32(uint32_t crc, const uint8_t *at, size_t size) {
#if defined(__x86_64__)
    if (size >= 16 && binlogd_crc_folds)
        return ~binlogd_crc_by_folding(~crc, at, size);
#endif
    return ~binlogd_crc_by_table(~crc, at, size);
}

#endif
