/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The undo records of the load that runs, to roll all objects back if it fails in a later device. */
#ifndef QV_UNDO_LOG_H
#define QV_UNDO_LOG_H

#include "bridge/object.h"

/* Roll all objects back that have records, and drop the records. */
void qv_undo_roll_back(void);
/* Drop all records, but leave what needs the GIL to qv_undo_release(). */
void qv_undo_finish(void);
/* Free Python's records that were dropped. */
void qv_undo_release(void);
/* Record the memory of an object's native parts before C changes it; their locks are held. */
void qv_undo_add_parts(QvObject *object);
/* Record what Python has changed; steals the reference. */
void qv_undo_add_python(void *undo);
/* Drop an object's records, before it is freed. */
void qv_undo_forget(QvObject *object);

#endif
