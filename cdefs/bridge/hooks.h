/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the hooks do with an object; vmsd_hooks.c has them in the shape that QEMU calls.
 * opaque is the staging struct.
 */
#ifndef QV_HOOKS_H
#define QV_HOOKS_H

#include "bridge/object.h"

int qv_pre_save(void *opaque, char **errmsg);
int qv_post_save(void *opaque, char **errmsg);
int qv_pre_load(void *opaque, char **errmsg);
int qv_post_load(void *opaque, int version_id, char **errmsg);

#endif
