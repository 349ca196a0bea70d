/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's hooks and qv_save() and qv_load() do with an object; qemu.h has those that
 * the hooks of each version's shape call.
 */
#ifndef QV_HOOKS_H
#define QV_HOOKS_H

#include "bridge/object.h"

/* Takes a snapshot.  gil: what enter() returned, if the caller has the GIL. */
int qv_object_fill(QvObject *object, bool keep, int *gil, char **why);
/* Whether this thread is in a hook: the list that QEMU is walking must not change. */
bool qv_in_hook(void);

#endif
