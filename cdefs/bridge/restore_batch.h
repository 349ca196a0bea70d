/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The restores of one load of all devices.  Objects whose sections follow one another in the
 * stream are restored together, in stream order, by the last one's post_load, which can still
 * fail the load: waiting for the GIL beside busy Python threads takes milliseconds, which the
 * downtime must not have once for each object.  Guarded by the BQL.
 */
#ifndef QV_RESTORE_BATCH_H
#define QV_RESTORE_BATCH_H

#include "bridge/object.h"

/* Note that QEMU begins to load the VM, and that it has ended that. */
void qv_restore_batch_begin_load(void);
void qv_restore_batch_end_load(void);
/* Forget an object that is registered no more. */
void qv_restore_batch_remove(QvObject *object);
/*
 * Prepare for the load of an object, as part of a load of the VM.  This restores what waits, should
 * another object have been next.
 */
int qv_restore_batch_begin(QvObject *object, char **errmsg);
/* Restore the object and all that wait for it, or let it wait for the object that is next. */
int qv_restore_batch_commit(QvObject *object, int version_id, char **errmsg);
/* Restore what still waits. */
int qv_restore_batch_flush(char **errmsg);

#endif
