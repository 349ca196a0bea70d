/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One save of the whole savevm list.  Its first hook that needs Python takes the
 * snapshots of all registered objects that do: to wait for the GIL beside a busy
 * Python thread takes milliseconds, and must not be paid for each of them.
 * Guarded by the BQL.
 */
#ifndef QV_ROUND_H
#define QV_ROUND_H

#include "bridge/object.h"

/* An object that is in the savevm list and whose snapshot needs Python. */
int qv_snapshot_batch_add(QvObject *object);
void qv_snapshot_batch_remove(QvObject *object);
/* Whether its snapshot is taken already in this batch: then *ret and *errmsg say how it went. */
bool qv_snapshot_batch_prefetched(QvObject *object, int *ret, char **errmsg);
/* What was taken of it is not to be saved any more. */
void qv_snapshot_batch_discard(QvObject *object);

#endif
