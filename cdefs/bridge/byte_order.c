/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See byte_order.h.  Plain loops, which the compiler makes vector code of: see meson.build. */
#include <stdint.h>
#include <string.h>

#include "bridge/byte_order.h"

/*
 * The x86-64 that every processor has lacks an instruction that reorders bytes, so there is a copy
 * of each loop for those that have one; the dynamic linker selects it.
 */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(QV_NO_VECTOR_CLONES)
#define CLONES __attribute__((target_clones("avx2", "ssse3", "default")))
#else
#define CLONES
#endif

#define SWAP(bits)                                                                                 \
    CLONES static void swap_##bits(unsigned char *restrict to, const unsigned char *restrict from, \
                                   size_t n)                                                       \
    {                                                                                              \
        size_t i;                                                                                  \
                                                                                                   \
        for (i = 0; i < n; i++) {                                                                  \
            uint##bits##_t value;                                                                  \
                                                                                                   \
            memcpy(&value, from + i * sizeof(value), sizeof(value));                               \
            value = __builtin_bswap##bits(value);                                                  \
            memcpy(to + i * sizeof(value), &value, sizeof(value));                                 \
        }                                                                                          \
    }

SWAP(16)
SWAP(32)
SWAP(64)

void qv_copy_big_endian(int width, void *to, const void *from, size_t n)
{
    if (width == 1 || __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) {
        memcpy(to, from, n * width);
    } else if (width == 2) {
        swap_16(to, from, n);
    } else if (width == 4) {
        swap_32(to, from, n);
    } else {
        swap_64(to, from, n);
    }
}
