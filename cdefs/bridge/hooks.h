/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hooks, independent of the QEMU version; vmsd_hooks.c wraps them for QEMU.
 * opaque is the staging struct.
 */
#ifndef QV_HOOKS_H
#define QV_HOOKS_H

#include "bridge/object.h"

int qv_pre_save(void *opaque, char **errmsg);
int qv_post_save(void *opaque, char **errmsg);
int qv_pre_load(void *opaque, char **errmsg);
int qv_post_load(void *opaque, int version_id, char **errmsg);
/* Set the hooks of the object's description; to be called for each new object. */
void qv_object_set_hooks(QvObject *object);
/* Load the object as from a stream without any of its fields, and with all of its hooks. */
int qv_load_nothing(QvObject *object, char **errmsg);

#endif
