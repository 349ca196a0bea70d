/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The differences between QEMU versions.  Only the files that include this header compare
 * versions and call the functions in qv_internal.
 */
#ifndef QV_QEMU_VERSION_H
#define QV_QEMU_VERSION_H

#include "bridge/qemu.h"
#include "qapi/qapi-commands-control.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "migration/migration.h"
#include "migration/register.h"
#if QEMU_VERSION_MAJOR >= 10
#include "qobject/json-writer.h"
#include "system/runstate.h"
#else
#include "qapi/qmp/json-writer.h"
#include "sysemu/runstate.h"
#endif

#define QV_VERSION (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR)
#define QV_ERRP_HOOKS (QV_VERSION >= 1002)

#if QV_VERSION < 702
#error "qemu_vmstate needs QEMU 7.2 or later"
#endif

#if QV_VERSION >= 1000
#define QV_BQL_SYMBOLS(X) X(bql_lock_impl) X(bql_unlock) X(bql_locked)
#define QV_IDLE_SYMBOLS(X) X(migration_is_running)
#else
#define QV_BQL_SYMBOLS(X) \
    X(qemu_mutex_lock_iothread_impl) X(qemu_mutex_unlock_iothread) X(qemu_mutex_iothread_locked)
#define QV_IDLE_SYMBOLS(X) X(migration_is_idle)
#endif

#if QV_ERRP_HOOKS || QV_VERSION < 900
#define QV_SAVE_SYMBOL(X) X(vmstate_save_state)
#else
#define QV_SAVE_SYMBOL(X) X(vmstate_save_state_with_err)
#endif

/* Functions for the files that include this header only; the lists are split as in qemu.h. */
/* clang-format off */
#define QV_INTERNAL_SYMBOLS(X)                                          \
    X(json_writer_end_object) X(json_writer_free) X(json_writer_get)    \
    X(json_writer_new) X(json_writer_start_object) X(module_call_init)  \
    X(vmstate_load_state) QV_SAVE_SYMBOL(X)
/* clang-format on */
/* clang-format off */
#define QV_INTERNAL_VM_SYMBOLS(X)                                       \
    X(migrate_get_current) X(migrate_set_error)                         \
    X(qapi_free_VersionInfo) X(qemu_in_coroutine) X(qmp_query_version)  \
    X(migration_incoming_get_current) X(qemu_add_vm_change_state_handler) \
    X(register_savevm_live) X(runstate_check)                           \
    QV_BQL_SYMBOLS(X) QV_IDLE_SYMBOLS(X)
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
