/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_DIRECT_H
#define QV_DIRECT_H

#include "bridge/object.h"

/*
 * Looked at before anything is committed: a qv_load() that read too much or too
 * little must not change the object.
 */
int qv_check_all_read(QvObject *object, char **errmsg);
/* Whether QEMU is to be told: a migration failed, and not a qv_save() or qv_load(). */
bool qv_hook_failed(void *opaque, int ret, const char *errmsg);

#endif
