/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Detects when a load of the whole VM ends, through an entry of the savevm list that is no
 * device, and through a handler for the state of the VM.
 */
#include "bridge/load_watch.h"
#include "bridge/qemu_version.h"
#include "bridge/undo_log.h"

/* For a migration the state decides: its error may be a harmless one after the last byte. */
static bool load_has_failed(void)
{
    MigrationIncomingState *mis = qv_internal.migration_incoming_get_current();

    if (qv_undo_is_incoming()) {
        return mis->state == MIGRATION_STATUS_FAILED;
    }
#if QV_VERSION >= 1000
    if (qv_internal.migrate_get_current()->error) {
        return true;
    }
#endif
    return mis->from_src_file && qv.qemu_file_get_error(mis->from_src_file);
}

#if QV_VERSION >= 1000
/* Without this, QEMU 10 fails the load of a good snapshot for the error of an earlier save. */
static int on_load_setup(QEMUFile *f, void *opaque, Error **errp)
{
    if (!qv_load_is_incoming()) {
        qv.error_free(qatomic_xchg(&qv_internal.migrate_get_current()->error, NULL));
    }
    return 0;
}
#endif

static int on_load_cleanup(void *opaque)
{
    qv_undo_end_load(load_has_failed());
    return 0;
}

/* No save writes such a section; a stream that has one is refused. */
static int on_load_state(QEMUFile *f, void *opaque, int version_id)
{
    return -EINVAL;
}

static void on_state_change(void *opaque, bool running, RunState state)
{
    if (running) {
        qv_undo_vm_runs();
    }
}

void qv_watch_loads(void)
{
    static const SaveVMHandlers handlers = {
#if QV_VERSION >= 1000
        .load_setup = on_load_setup,
#endif
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
