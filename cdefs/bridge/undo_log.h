/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a load of QEMU's has changed so far, oldest first, to roll it back if it fails later. */
#ifndef QV_UNDO_LOG_H
#define QV_UNDO_LOG_H

#include "bridge/object.h"

/* A load of QEMU's begins with an object, or goes on with the next. */
void qv_undo_begin_load(void);
void qv_undo_end_load(bool failed);
void qv_undo_vm_runs(void);
/* What qv_load_is_incoming() said when the load began. */
bool qv_undo_is_incoming(void);
/* Before C changes the memory of an object's parts, whose locks are held. */
void qv_undo_add_parts(QvObject *object);
/* What Python has changed; takes the reference over. */
void qv_undo_add_python(void *undo);
/* The object is going to be freed. */
void qv_undo_forget(QvObject *object);

#endif
