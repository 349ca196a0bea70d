/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_BYTE_ORDER_H
#define QV_BYTE_ORDER_H

#include <stddef.h>

/*
 * Copy n numbers of width bytes (1, 2, 4 or 8) between the host's byte order and big endian.
 * to and from need no alignment and do not overlap.
 */
void qv_copy_big_endian(int width, void *to, const void *from, size_t n);

#endif
