/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The undo records of the load that runs, to roll all objects back if it fails in a later device. */
#ifndef QV_UNDO_LOG_H
#define QV_UNDO_LOG_H

#include "bridge/object.h"

/* Note that QEMU begins to load an object, the first or the next one of a load. */
void qv_undo_begin_load(void);
void qv_undo_end_load(bool failed);
void qv_undo_vm_runs(void);
/* Return what qv_load_is_incoming() returned when the load began. */
bool qv_undo_is_incoming(void);
/* Record the memory of an object's native parts before C changes it; their locks are held. */
void qv_undo_add_parts(QvObject *object);
/* Record what Python has changed; steals the reference. */
void qv_undo_add_python(void *undo);
/* Drop an object's records, before it is freed. */
void qv_undo_forget(QvObject *object);

#endif
