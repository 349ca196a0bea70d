/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lets QEMU describe each element of an array whose elements vary in size. */
#ifndef QV_VARYING_H
#define QV_VARYING_H

#include "bridge/qemu.h"

typedef bool QvExists(void *opaque, int version_id);

/*
 * Return a field_exists that a field of that version_id has no need of: true if the stream has this
 * version or a later one.  NULL if the number is too large.
 */
QvExists *qv_exists_since(int version_id);

#endif
