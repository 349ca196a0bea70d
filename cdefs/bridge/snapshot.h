/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Filling an object's staging struct from its state, and committing it to the state. */
#ifndef QV_SNAPSHOT_H
#define QV_SNAPSHOT_H

#include "bridge/object.h"

/*
 * Fill the staging struct.  preserve: only what a load preserves is needed.  gil: points to
 * what enter() of the Python table returned if the caller has the GIL, else NULL.
 */
int qv_object_fill(QvObject *object, bool preserve, int *gil, char **errmsg);
/* Fill the staging struct of an object that has only native parts and no extras. */
int qv_object_fill_native(QvObject *object, char **errmsg);
/* Change the object's state to what was loaded.  gil: as above. */
int qv_object_commit(QvObject *object, int version_id, int *gil, char **errmsg);
/* Call the Python part of a hook (QvHook), if the object has one; the callback gets argument. */
int qv_object_call_python(QvObject *object, int hook, int argument, char **errmsg);
/* Return whether this thread is in a hook, when QEMU walks the savevm list and it must not change. */
bool qv_in_hook(void);

#endif
