/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_INPROCESS_H
#define QV_INPROCESS_H

#include "bridge/object.h"
#include "shared/object_functions.h"

/* Call vmstate_save_state() or vmstate_load_state(); see shared/object_functions.h. */
int qv_save(QvObject *object, bool describe, QvSaved *saved, char **errmsg);
void qv_end_save(QvSaved *saved);
int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id,
            char **errmsg);
/*
 * Check that qv_load() has read its stream to the end and not past it.  To be called before
 * anything is committed, so that a wrong length changes nothing.
 */
int qv_check_all_read(QvObject *object, char **errmsg);
/*
 * Record the failure of a hook.  Return whether it is to be reported to QEMU: not if qv_save()
 * or qv_load() runs, which return the error, nor if it was reported already.
 */
bool qv_hook_failed(void *opaque, int ret, const char *errmsg);

#endif
