/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See load_end.h. */
#include "bridge/load_end.h"
#include "bridge/hooks.h"
#include "bridge/restore_batch.h"
#include "bridge/snapshot.h"
#include "bridge/undo_log.h"
#include "bridge/whole_load.h"

/* The load is certain already, so a failure can only be reported. */
static void make_new(QvObject *object)
{
    g_autofree char *errmsg = NULL;

    if (qv_load_nothing(object, &errmsg)) {
        qv.error_report("%s keeps its state from before the load, which has no section of it, "
                        "and should be new: %s",
                        object->object_class->vmsd->name, errmsg);
    }
    object->missed = true;
}

static void tell(QvObject *object, int hook, const char *name)
{
    g_autofree char *errmsg = NULL;

    if (qv_object_call_python(object, hook, !object->missed, &errmsg)) {
        qv.error_report("%s failed after the end of the load: %s", name, errmsg);
    }
}

/* Nothing waits after the last section, unless QEMU loaded another device than the expected one. */
static void restore_late(void)
{
    g_autofree char *errmsg = NULL;

    if (qv_restore_batch_flush(&errmsg)) {
        qv.error_report("a device keeps its state from before the load: %s", errmsg);
    }
}

void qv_load_succeeded(void)
{
    bool whole = qv_whole_load.kind == QV_WHOLE_LOAD;
    QvObject *object;

    if (qv_whole_load.kind == QV_NO_LOAD) {
        return;
    }
    restore_late();
    qv_whole_load.stream = NULL; /* for the objects below, which are not in it */
    if (whole && qv_whole_load.n_missing) {
        QTAILQ_FOREACH(object, &qv_whole_load.objects, entry)
        {
            if (!object->restored) {
                make_new(object);
            }
        }
    }
    qv_whole_load.kind = QV_NO_LOAD;
    /* This may be in the downtime, and the GIL may be busy: Python's records are freed later. */
    qv_undo_finish();
    if (qv_whole_load.n_told) {
        QTAILQ_FOREACH(object, &qv_whole_load.objects, entry)
        {
            if (whole || object->restored) {
                tell(object, QV_HOOK_LOAD_COMPLETE, "load_complete");
            }
        }
    }
}

void qv_load_failed(void)
{
    QvObject *object;

    if (qv_whole_load.kind == QV_NO_LOAD) {
        return;
    }
    qv_whole_load.kind = QV_NO_LOAD;
    qv_undo_roll_back();
    if (qv_whole_load.n_told) {
        QTAILQ_FOREACH_REVERSE(object, &qv_whole_load.objects, entry)
        {
            if (object->restored) {
                tell(object, QV_HOOK_LOAD_ROLLED_BACK, "load_rolled_back");
            }
        }
    }
}
