/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Detects when a load of the whole VM begins and ends, through an entry of the savevm list that
 * is no device, and through a handler for the state of the VM.
 */
#include "bridge/load_watch.h"
#include "bridge/bql.h"
#include "bridge/load_end.h"
#include "bridge/qemu_version.h"
#include "bridge/undo_log.h"
#include "bridge/whole_load.h"

typedef enum LoadResult { SUCCEEDED, FAILED, NOT_KNOWN } LoadResult;

static LoadResult load_result(void)
{
    MigrationIncomingState *mis = qv_internal.migration_incoming_get_current();
    bool broken = mis->from_src_file && qv.qemu_file_get_error(mis->from_src_file);

    if (!qv_whole_load.of_migration) {
#if QV_VERSION >= 1000
        broken = broken || qv_internal.migrate_get_current()->error;
#endif
        return broken ? FAILED : SUCCEEDED;
    }
    if (mis->state == MIGRATION_STATUS_FAILED) {
        return FAILED;
    }
#if QV_VERSION < 1000
    /*
     * The state is set later.  The error may be a harmless one behind the last section; if it is
     * not, QEMU exits.
     */
    return broken ? NOT_KNOWN : SUCCEEDED;
#else
    return SUCCEEDED;
#endif
}

static void begin(void)
{
#if QV_VERSION >= 1000
    /* Without this, QEMU 10 fails the load of a good snapshot for the error of an earlier save. */
    if (!qv_load_is_incoming()) {
        qv.error_free(qatomic_xchg(&qv_internal.migrate_get_current()->error, NULL));
    }
#endif
    qv_whole_load_begin();
}

#if QV_VERSION >= 1000
static int on_load_setup(QEMUFile *f, void *opaque, Error **errp)
#else
static int on_load_setup(QEMUFile *f, void *opaque)
#endif
{
    begin();
    return 0;
}

static int on_load_cleanup(void *opaque)
{
    /* QEMU 7.2 ends a postcopy without it. */
    bool taken = qv_bql_enter();
    LoadResult result = qv_whole_load.kind == QV_NO_LOAD ? NOT_KNOWN : load_result();

    if (result == SUCCEEDED) {
        qv_load_succeeded();
    } else if (result == FAILED) {
        qv_load_failed();
    }
    qv_undo_release();
    qv_bql_leave(taken);
    return 0;
}

/* No save writes such a section; a stream that has one is refused. */
static int on_load_state(QEMUFile *f, void *opaque, int version_id)
{
    return -EINVAL;
}

static void on_state_change(void *opaque, bool running, RunState state)
{
    /* The load of a snapshot has ended before; one of which QEMU 7.2 failed to begin has not. */
    if (running && (qv_whole_load.kind == QV_CHECKPOINT || qv_whole_load.of_migration)) {
        qv_load_succeeded();
    }
}

void qv_watch_loads(void)
{
    static const SaveVMHandlers handlers = {
        .load_setup = on_load_setup,
        .load_state = on_load_state,
        .load_cleanup = on_load_cleanup,
    };
    static bool watching;

    if (!watching) {
        watching = true;
        qv_internal.register_savevm_live("qemu_vmstate", 0, 1, &handlers, NULL);
        qv_internal.qemu_add_vm_change_state_handler(on_state_change, NULL);
    }
}
