/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The big QEMU lock for Python.  Only bql_lock() releases the GIL, because it may have to wait.
 *
 * A waiter requests the GIL only after a switch interval without any release.  A thread that
 * releases it often, but each time for less than it takes a waiter to wake up, would starve
 * the others: so a thread that takes the BQL often yields now and then.
 */
#include <time.h>

#include "state/bql.h"
#include "shared/bql_functions.h"

/* A yield takes some 55 us, the kernel's shortest sleep: about a hundredth of the time at most. */
#define YIELD_EVERY_NS 5000000

static const QvBql *bql;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

PyObject *qv_state_set_bql(PyObject *module, PyObject *address)
{
    (void)module;
    bql = PyLong_AsVoidPtr(address);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyObject *qv_state_bql_lock(PyObject *module, PyObject *unused)
{
    static __thread int64_t last_yield;
    struct timespec shortest = { .tv_nsec = 1 };
    int64_t now = now_ns();
    bool yield = now - last_yield > YIELD_EVERY_NS;

    (void)module;
    (void)unused;
    if (yield) {
        last_yield = now;
    }
    Py_BEGIN_ALLOW_THREADS
        if (yield) {
            nanosleep(&shortest, NULL);
        }
        bql->lock();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject *qv_state_bql_unlock(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    bql->unlock();
    Py_RETURN_NONE;
}

PyObject *qv_state_bql_locked(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(bql->locked());
}
