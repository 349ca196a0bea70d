/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The big QEMU lock, as Python takes it.  The GIL is free only while one may have to wait.
 *
 * A thread that waits for the GIL asks for it after a switch interval in which nobody gave
 * it away.  One that gives it away for less time than it takes to wake up, again and again,
 * would have it nearly for ever: so a thread that takes the BQL often rests now and then.
 */
#include "state/bql.h"
#include "shared/bql_functions.h"

/* A hundredth of the time at most goes into rests of some 55 us, the kernel's shortest. */
#define REST_EVERY_NS 5000000

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
    static __thread int64_t rested;
    struct timespec shortest = { .tv_nsec = 1 };
    int64_t now = now_ns();
    bool rest = now - rested > REST_EVERY_NS;

    (void)module;
    (void)unused;
    if (rest) {
        rested = now;
    }
    Py_BEGIN_ALLOW_THREADS
        if (rest) {
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
