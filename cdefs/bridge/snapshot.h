/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One object's staging struct: filled from what it shows, and committed to it. */
#ifndef QV_SNAPSHOT_H
#define QV_SNAPSHOT_H

#include "bridge/object.h"

/*
 * Takes a snapshot.  keep: of what a load keeps, before it begins.  gil: what enter() of
 * the Python table returned, if the caller has the GIL.
 */
int qv_object_fill(QvObject *object, bool keep, int *gil, char **errmsg);
/* The same for an object that has native parts only, and no extras. */
int qv_object_fill_native(QvObject *object, char **errmsg);
/* Puts what was loaded into the object. */
int qv_object_commit(QvObject *object, int version_id, char **errmsg);
/* The Python part of a hook (QvHook), if it has one; argument: of the callback. */
int qv_object_call_python(QvObject *object, int hook, int argument, char **errmsg);
/* Whether this thread is in a hook: the list that QEMU is walking must not change. */
bool qv_in_hook(void);

#endif
