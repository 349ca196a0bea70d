/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the hooks do with an object; vmsd_hooks.c has them in the shape that QEMU calls.
 * opaque is the staging struct.
 */
#ifndef QV_HOOKS_H
#define QV_HOOKS_H

#include "bridge/object.h"

int qv_take_snapshot(void *opaque, char **why);
int qv_after_save(void *opaque, char **why);
int qv_begin_load(void *opaque, char **why);
int qv_commit_staging(void *opaque, int version_id, char **why);

#endif
