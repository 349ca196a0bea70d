/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The big QEMU lock: QEMU's own in a VM, a mutex of the bridge in process. */
#include "bridge/bql.h"
#include "bridge/qemu_internal.h"
#include "shared/bql_functions.h"

static pthread_mutex_t in_process_bql = PTHREAD_MUTEX_INITIALIZER;
static __thread bool in_process_bql_held;

static void vm_bql_lock(void)
{
#if QV_HAS_BQL_LOCK
    qv_internal.bql_lock_impl(__FILE__, __LINE__);
#else
    qv_internal.qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
#endif
}

static void vm_bql_unlock(void)
{
#if QV_HAS_BQL_LOCK
    qv_internal.bql_unlock();
#else
    qv_internal.qemu_mutex_unlock_iothread();
#endif
}

static bool vm_bql_locked(void)
{
#if QV_HAS_BQL_LOCK
    return qv_internal.bql_locked();
#else
    return qv_internal.qemu_mutex_iothread_locked();
#endif
}

static void take_bql(void)
{
    if (qv.in_vm) {
        vm_bql_lock();
    } else {
        pthread_mutex_lock(&in_process_bql);
        in_process_bql_held = true;
    }
}

static void release_bql(void)
{
    if (qv.in_vm) {
        vm_bql_unlock();
    } else {
        in_process_bql_held = false;
        pthread_mutex_unlock(&in_process_bql);
    }
}

static int bql_is_locked(void)
{
    return qv.in_vm ? vm_bql_locked() : in_process_bql_held;
}

const void *qv_bql_functions(void)
{
    static const QvBql functions = { take_bql, release_bql, bql_is_locked };

    return &functions;
}

bool qv_bql_enter(void)
{
    bool taken = !bql_is_locked();

    if (taken) {
        take_bql();
    }
    return taken;
}

void qv_bql_leave(bool taken)
{
    if (taken) {
        release_bql();
    }
}
