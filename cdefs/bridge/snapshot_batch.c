/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See round.h. */
#include "bridge/snapshot_batch.h"
#include "bridge/python_call.h"
#include "bridge/snapshot.h"

static GPtrArray *objects;      /* owner: the process, for its life */
static bool begun;              /* a save began, and nobody took the snapshots yet */

void qv_round_forget(QvObject *object)
{
    QvExtras *extras = object->extras;

    if (extras && extras->taken) {
        extras->taken = false;
        qv_failure_clear(&extras->untaken);
        qv_object_rest(object);
    }
}

/* QEMU asks this of each entry as it comes to it, and of this one first. */
static bool begin_round(void *opaque)
{
    guint i;

    begun = true;
    for (i = 0; i < objects->len; i++) {
        qv_round_forget(objects->pdata[i]);
    }
    return false;               /* so nothing of it is in the stream */
}

static int add_beginning(void)
{
    static VMStateField none[1];
    static const VMStateDescription vmsd = {
        .name = "qemu-vmstate-round",
        .priority = MIG_PRI_MAX,
        .needed = begin_round,
        .fields = none,
    };

    qv_end_of_list(&none[0]);
    return qv.vmstate_register_with_alias_id(NULL, 0, &vmsd, &begun, -1, 0, NULL);
}

int qv_round_add(QvObject *object)
{
    if (!objects) {
        if (add_beginning() < 0) {
            return -EINVAL;
        }
        objects = g_ptr_array_new();
    }
    object->extras->in_rounds = true;
    g_ptr_array_add(objects, object);
    return 0;
}

void qv_round_remove(QvObject *object)
{
    if (object->extras && object->extras->in_rounds) {
        qv_round_forget(object);
        object->extras->in_rounds = false;
        g_ptr_array_remove(objects, object);
    }
}

static void take_all(void)
{
    int gil = qv_python_table->enter();
    guint i;

    for (i = 0; i < objects->len; i++) {
        QvObject *object = objects->pdata[i];

        object->extras->untaken.ret = qv_object_fill(object, false, &gil,
                                                     &object->extras->untaken.why);
        object->extras->taken = true;
    }
    qv_python_table->leave(gil);
}

bool qv_round_took(QvObject *object, int *ret, char **why)
{
    QvExtras *extras = object->extras;

    if (!extras || !extras->in_rounds) {
        return false;
    }
    if (object->direct) {
        qv_round_forget(object);
        return false;
    }
    if (begun) {
        begun = false;
        take_all();
    }
    if (!extras->taken) {
        return false;
    }
    extras->taken = false;
    *ret = qv_failure_take(&extras->untaken, why);
    return true;
}
