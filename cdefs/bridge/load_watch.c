/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Detects when a load of the whole VM begins and ends, through an entry of the savevm list that
 * is no device, and through a handler for the state of the VM.
 */
#include "bridge/load_watch.h"
#include "bridge/bql.h"
#include "bridge/load_end.h"
#include "bridge/qemu_internal.h"
#include "bridge/restore_batch.h"
#include "bridge/undo_log.h"
#include "bridge/whole_load.h"

typedef enum LoadResult { SUCCEEDED, FAILED, NOT_KNOWN } LoadResult;

static bool stream_is_broken(void)
{
    return qv_whole_load.stream && qv.qemu_file_get_error(qv_whole_load.stream);
}

#if QV_RESULT_BEFORE_CLEANUP
static LoadResult migration_result(void)
{
    return qv_migrate_has_error() ? FAILED : SUCCEEDED;
}
#else
/*
 * QEMU decides later.  The error of the stream may be a harmless one behind the last section; if
 * it is not, QEMU exits.  A postcopy that comes here has succeeded, and its stream is closed.
 */
static LoadResult migration_result(void)
{
    return !qv_in_postcopy() && stream_is_broken() ? NOT_KNOWN : SUCCEEDED;
}
#endif

static LoadResult load_result(void)
{
    bool failed;

    if (qv_whole_load.of_migration) {
        return migration_result();
    }
    failed = stream_is_broken();
#if QV_STALE_ERROR_FAILS_LOAD
    failed = failed || qv_migrate_has_error();
#endif
    return failed ? FAILED : SUCCEEDED;
}

static int begin(QEMUFile *f, char **errmsg)
{
    qv_whole_load_begin(f);
    qv_restore_batch_begin_load();
    return qv_whole_load.of_migration ? 0 : qv_clear_stale_error(errmsg);
}

#if QV_LOAD_SETUP_SETS_ERROR
static int on_load_setup(QEMUFile *f, void *opaque, Error **errp)
{
    g_autofree char *errmsg = NULL;
    int ret = begin(f, &errmsg);

    if (ret < 0) {
        qv.error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", errmsg);
    }
    return ret;
}
#else
static int on_load_setup(QEMUFile *f, void *opaque)
{
    g_autofree char *errmsg = NULL;
    int ret = begin(f, &errmsg);

    if (ret < 0) {
        qv.error_report("%s", errmsg);
    }
    return ret;
}
#endif

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
    qv_restore_batch_end_load();
    qv_whole_load.stream = NULL;
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
