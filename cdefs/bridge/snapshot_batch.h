/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The snapshots of one save of all devices.  The first hook that needs Python prefetches the
 * snapshots of all registered objects that do: waiting for the GIL beside a busy Python
 * thread takes milliseconds, which the downtime must not have once for each object.
 * Guarded by the BQL.
 */
#ifndef QV_SNAPSHOT_BATCH_H
#define QV_SNAPSHOT_BATCH_H

#include "bridge/object.h"

/* Add a registered object whose snapshot needs Python. */
int qv_snapshot_batch_add(QvObject *object);
void qv_snapshot_batch_remove(QvObject *object);
/* Return whether the object's snapshot was prefetched; *ret and *errmsg are then its result. */
bool qv_snapshot_batch_prefetched(QvObject *object, int *ret, char **errmsg);
/* Drop the object's prefetched snapshot. */
void qv_snapshot_batch_discard(QvObject *object);

#endif
