/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Objects' place in a VM's savevm list. */
#include "bridge/bql.h"
#include "bridge/load_watch.h"
#include "bridge/snapshot.h"
#include "bridge/snapshot_batch.h"
#include "bridge/undo_log.h"

/* A reason why the savevm list must be left alone now, or NULL. */
static const char *list_is_busy(void)
{
    if (qv_in_hook()) {
        return "a migration hook is running";
    }
    return qv_migration_idle() ? NULL : "a migration is running";
}

/* Whether its snapshot can be taken with all others', before QEMU comes to it. */
static bool in_rounds(QvObject *object)
{
    bool may_be_left_out = object->hooks & QV_HOOK_NEEDED;

    return (object->hooks & QV_HOOK_SNAPSHOT) && !may_be_left_out
        && !qv_is_early(object->kind->vmsd);
}

int qv_register(QvObject *object, uint32_t instance_id, char **why)
{
    bool taken = qv_bql_enter();
    const char *busy = list_is_busy();
    Error *err = NULL;
    int ret = -EBUSY;

    if (busy) {
        *why = g_strdup(busy);
    } else {
        ret = qv.vmstate_register_with_alias_id(NULL, instance_id, object->kind->vmsd,
                                                object->staging, -1, 0, &err);
        if (ret < 0) {
            *why = g_strdup(err ? qv.error_get_pretty(err) : strerror(-ret));
            g_clear_pointer(&err, qv.error_free);
        } else {
            object->registered = true;
            if (in_rounds(object)) {
                qv_round_add(object);
            }
            qv_watch_loads();
        }
    }
    qv_bql_leave(taken);
    return ret;
}

int qv_unregister(QvObject *object, char **why)
{
    bool taken = qv_bql_enter();
    const char *busy = list_is_busy();

    if (busy) {
        *why = g_strdup(busy);
    } else {
        qv.vmstate_unregister(NULL, object->kind->vmsd, object->staging);
        object->registered = false;
        qv_round_remove(object);
        qv_undo_forget(object);
    }
    qv_bql_leave(taken);
    return busy ? -EBUSY : 0;
}
