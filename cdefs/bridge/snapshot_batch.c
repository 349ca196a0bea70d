/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prefetching the snapshots that need Python. */
#include "bridge/snapshot_batch.h"
#include "bridge/python_call.h"
#include "bridge/snapshot.h"

static GPtrArray *objects; /* owner: the process, for its life */
static bool pending;       /* a save has begun and its snapshots are not prefetched */

void qv_snapshot_batch_discard(QvObject *object)
{
    QvExtras *extras = object->extras;

    if (extras && extras->prefetched) {
        extras->prefetched = false;
        qv_failure_clear(&extras->prefetch_error);
        qv_object_release_pages(object);
    }
}

/* The needed() of the marker.  QEMU calls it first, because the marker has the highest priority. */
static bool begin_batch(void *opaque)
{
    guint i;

    pending = true;
    for (i = 0; i < objects->len; i++) {
        qv_snapshot_batch_discard(objects->pdata[i]);
    }
    return false; /* keeps the marker out of the stream */
}

static int register_marker(void)
{
    static VMStateField none[1];
    static const VMStateDescription vmsd = {
        .name = "qemu-vmstate-snapshot-batch",
        .priority = MIG_PRI_MAX,
        .needed = begin_batch,
        .fields = none,
    };

    qv_end_of_list(&none[0]);
    return qv.vmstate_register_with_alias_id(NULL, 0, &vmsd, &pending, -1, 0, NULL);
}

int qv_snapshot_batch_add(QvObject *object)
{
    if (!objects) {
        if (register_marker() < 0) {
            return -EINVAL;
        }
        objects = g_ptr_array_new();
    }
    object->extras->batched = true;
    g_ptr_array_add(objects, object);
    return 0;
}

void qv_snapshot_batch_remove(QvObject *object)
{
    if (object->extras && object->extras->batched) {
        qv_snapshot_batch_discard(object);
        object->extras->batched = false;
        g_ptr_array_remove(objects, object);
    }
}

static void prefetch_all(void)
{
    int gil = qv_python_table->enter_batch();
    guint i;

    for (i = 0; i < objects->len; i++) {
        QvObject *object = objects->pdata[i];

        qv_python_table->keep();
        object->extras->prefetch_error.ret =
            qv_object_fill(object, false, &gil, &object->extras->prefetch_error.errmsg);
        object->extras->prefetched = true;
    }
    qv_python_table->leave_batch(gil);
}

bool qv_snapshot_batch_prefetched(QvObject *object, int *ret, char **errmsg)
{
    QvExtras *extras = object->extras;

    if (!extras || !extras->batched) {
        return false;
    }
    if (object->inprocess) {
        qv_snapshot_batch_discard(object);
        return false;
    }
    if (pending) {
        pending = false;
        prefetch_all();
    }
    if (!extras->prefetched) {
        return false;
    }
    extras->prefetched = false;
    *ret = qv_failure_take(&extras->prefetch_error, errmsg);
    return true;
}
