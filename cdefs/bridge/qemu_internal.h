/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's functions that its releases name or declare differently, and those that few files need. */
#ifndef QV_QEMU_INTERNAL_H
#define QV_QEMU_INTERNAL_H

#include "bridge/qemu.h"
#include "bridge/qemu_version.h"
#include "qapi/qapi-commands-control.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "migration/migration.h"
#include "migration/register.h"
#if QV_HAS_SYSTEM_HEADERS
#include "qobject/json-writer.h"
#include "system/runstate.h"
#include "system/system.h"
#else
#include "qapi/qmp/json-writer.h"
#include "sysemu/runstate.h"
#include "sysemu/sysemu.h"
#endif

#if QV_HAS_BQL_LOCK
#define QV_BQL_SYMBOLS(X) X(bql_lock_impl) X(bql_unlock) X(bql_locked)
#else
#define QV_BQL_SYMBOLS(X) \
    X(qemu_mutex_lock_iothread_impl) X(qemu_mutex_unlock_iothread) X(qemu_mutex_iothread_locked)
#endif

#if QV_HAS_IS_RUNNING
#define QV_IDLE_SYMBOL(X) X(migration_is_running)
#else
#define QV_IDLE_SYMBOL(X) X(migration_is_idle)
#endif

#if QV_HAS_ERROR_PROPAGATE
#define QV_SET_ERROR_SYMBOL(X) X(migrate_error_propagate)
#else
#define QV_SET_ERROR_SYMBOL(X) X(migrate_set_error)
#endif

/* How load_watch.c learns whether a load has failed. */
#if QV_RESULT_BEFORE_CLEANUP
#define QV_RESULT_SYMBOL(X) X(migrate_has_error)
#else
#define QV_RESULT_SYMBOL(X)
#endif

#if QV_STALE_ERROR_FAILS_LOAD
#define QV_STALE_ERROR_SYMBOL(X) X(qemu_add_machine_init_done_notifier)
#else
#define QV_STALE_ERROR_SYMBOL(X)
#endif

#if QV_POST_SAVE_CAN_FAIL
#define QV_POST_SAVE_SYMBOL(X)
#else
#define QV_POST_SAVE_SYMBOL(X) X(migration_file_set_error)
#endif

#if QV_HAS_SAVE_WITH_ERR
#define QV_SAVE_SYMBOL(X) X(vmstate_save_state_with_err)
#else
#define QV_SAVE_SYMBOL(X) X(vmstate_save_state)
#endif

/* Functions for the files that include this header only; the lists are split as in qemu.h. */
/* clang-format off */
#define QV_INTERNAL_SYMBOLS(X)                                          \
    X(json_writer_end_array) X(json_writer_end_object)                  \
    X(json_writer_free) X(json_writer_get) X(json_writer_get_and_free)  \
    X(json_writer_int64) X(json_writer_new) X(json_writer_start_array)  \
    X(json_writer_start_object) X(json_writer_str) X(module_call_init)  \
    X(vmstate_load_state) QV_SAVE_SYMBOL(X)
/* clang-format on */
/* clang-format off */
#define QV_INTERNAL_VM_SYMBOLS(X)                                       \
    X(migrate_get_current) X(migration_in_incoming_postcopy)            \
    X(qapi_free_VersionInfo)                                            \
    X(qemu_add_vm_change_state_handler) X(qemu_in_coroutine)            \
    X(qmp_query_version) X(register_savevm_live) X(runstate_check)      \
    QV_BQL_SYMBOLS(X) QV_IDLE_SYMBOL(X) QV_SET_ERROR_SYMBOL(X)          \
    QV_POST_SAVE_SYMBOL(X) QV_RESULT_SYMBOL(X) QV_STALE_ERROR_SYMBOL(X)
/* clang-format on */

/* Their addresses, which qv_init() looks up. */
typedef struct QvQemuInternal {
#define QV_MEMBER(name) __typeof__(name) *name;
    QV_INTERNAL_SYMBOLS(QV_MEMBER)
    QV_INTERNAL_VM_SYMBOLS(QV_MEMBER)
#undef QV_MEMBER
} QvQemuInternal;

extern QvQemuInternal qv_internal;

#endif
