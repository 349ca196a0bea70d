/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Adding objects to a VM's savevm list and removing them. */
#include "bridge/registration.h"
#include "bridge/bql.h"
#include "bridge/load_watch.h"
#include "bridge/restore_batch.h"
#include "bridge/snapshot.h"
#include "bridge/snapshot_batch.h"
#include "bridge/undo_log.h"
#include "bridge/whole_load.h"

/* Return why the savevm list must not change now, or NULL. */
static const char *list_is_busy(void)
{
    if (qv_in_hook()) {
        return "a migration hook is running";
    }
    return qv_migration_idle() ? NULL : "a migration is running";
}

/* Return whether the object's snapshot can be taken before QEMU comes to the object. */
static bool can_batch(QvObject *object)
{
    bool may_be_left_out = object->hooks & QV_HOOK_NEEDED;

    return (object->hooks & QV_HOOK_SNAPSHOT) && !may_be_left_out
           && !qv_is_early(object->object_class->vmsd);
}

int qv_register(QvObject *object, uint32_t instance_id, char **errmsg)
{
    bool taken = qv_bql_enter();
    const char *busy = list_is_busy();
    Error *err = NULL;
    int ret = -EBUSY;

    if (busy) {
        *errmsg = g_strdup(busy);
    } else {
        ret = qv.vmstate_register_with_alias_id(NULL, instance_id, object->object_class->vmsd,
                                                object->staging, -1, 0, &err);
        if (ret < 0) {
            *errmsg = g_strdup(err ? qv.error_get_pretty(err) : strerror(-ret));
            g_clear_pointer(&err, qv.error_free);
        } else {
            object->registered = true;
            object->instance_id = instance_id;
            qv_whole_load_add(object);
            if (can_batch(object)) {
                qv_snapshot_batch_add(object);
            }
            qv_watch_loads();
        }
    }
    qv_bql_leave(taken);
    return ret;
}

int qv_unregister(QvObject *object, char **errmsg)
{
    bool taken = qv_bql_enter();
    const char *busy = list_is_busy();

    if (busy) {
        *errmsg = g_strdup(busy);
    } else {
        qv.vmstate_unregister(NULL, object->object_class->vmsd, object->staging);
        object->registered = false;
        qv_whole_load_remove(object);
        qv_snapshot_batch_remove(object);
        qv_restore_batch_remove(object);
        qv_undo_forget(object);
    }
    qv_bql_leave(taken);
    return busy ? -EBUSY : 0;
}
