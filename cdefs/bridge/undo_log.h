/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_UNDO_H
#define QV_UNDO_H

#include "bridge/object.h"

/* A load of QEMU's begins with an object, or goes on with the next. */
void qv_undo_begin_load(void);
void qv_undo_end_load(bool failed);
void qv_undo_vm_runs(void);
/* What qv_load_is_incoming() said when the load began. */
bool qv_undo_is_incoming(void);
/* Before the object changes, whose locks are held; by_python: it keeps what there was. */
void qv_undo_remember(QvObject *object, bool by_python);
/* The object is going to be freed. */
void qv_undo_forget(QvObject *object);

#endif
