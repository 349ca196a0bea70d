/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The GIL for the bridge, which enters Python for one hook or for a batch of objects.
 *
 * A thread that waits for the GIL asks for it after a switch interval in which it has not changed
 * hands.  Whoever is asked gives it up, and one of those that wait gets it: beside four busy
 * threads a batch waits for some intervals before it begins, and as long each time that it is
 * asked.  Therefore:
 *
 * - From the begin of an incoming migration, while the source still runs, until its end the
 *   interval is shorter.  While a batch works it is the usual one.
 * - Shortly before it has passed, the GIL changes hands between two thread states of the batch's
 *   thread, and all that wait begin to wait anew.
 */
#include "state/gil.h"
#include "state/object_util.h"
#include <time.h>

#define SHORT_US 100
/* When those that began to wait for the shorter interval do so, but have not asked yet. */
#define FIRST_CHANGE_US (SHORT_US * 6 / 10)
/* In which a thread that was woken finds that it has to wait, and does. */
#define AWAKE_US 30

/* The GIL guards these. */
static PyThreadState *other; /* owner: the batch that runs; or NULL */
static int64_t change_at;
static long usual;  /* the interval in microseconds without a batch and a load */
static long chosen; /* the interval that was set here, or 0 */
static bool loading;

static int64_t now_us(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000LL + at.tv_nsec / 1000;
}

/* Return 0 if Python does not say it. */
static long switch_interval(void)
{
    PyObject *get = PySys_GetObject("getswitchinterval");
    PyObject *interval = get ? PyObject_CallNoArgs(get) : NULL;
    double seconds = interval ? PyFloat_AsDouble(interval) : 0;

    Py_XDECREF(interval);
    PyErr_Clear();
    return lround(seconds * 1e6);
}

/* Set the interval, unless a script has set another one than was chosen last. */
static void choose(long interval)
{
    PyObject *set = PySys_GetObject("setswitchinterval"), *done = NULL;

    if (set && (!chosen || switch_interval() == chosen)) {
        /* Python cuts off what is less than a microsecond. */
        done = PyObject_CallFunction(set, "d", (interval + 0.5) * 1e-6);
    }
    PyErr_Clear();
    if (done) {
        chosen = interval;
        Py_DECREF(done);
    }
}

int qv_gil_enter(void)
{
    return PyGILState_Ensure();
}

void qv_gil_leave(int state)
{
    PyGILState_Release(state);
}

void qv_gil_begin_load(void)
{
    int state = qv_gil_enter();

    usual = switch_interval();
    loading = usual > SHORT_US;
    if (loading) {
        choose(SHORT_US);
    }
    qv_gil_leave(state);
}

void qv_gil_end_load(void)
{
    int state = qv_gil_enter();

    if (loading) {
        choose(usual);
    }
    loading = false;
    chosen = 0;
    qv_gil_leave(state);
}

int qv_gil_enter_batch(void)
{
    int state = qv_gil_enter();

    if (loading) {
        choose(usual);
    } else {
        usual = switch_interval();
    }
    change_at = now_us() + (loading ? FIRST_CHANGE_US : usual * 4 / 5);
    return state;
}

static void change_hands(void)
{
    PyThreadState *own = PyThreadState_Get();
    int64_t until;

    /* A debug build of CPython 3.11 ends if a thread uses a second thread state. */
    if (!other && !PySys_GetObject("gettotalrefcount")) {
        other = PyThreadState_New(PyThreadState_GetInterpreter(own));
    }
    if (other) {
        PyEval_ReleaseThread(own);
        PyEval_AcquireThread(other);
        /* That has woken one of those that wait, which could be faster the second time. */
        until = now_us() + AWAKE_US;
        while (now_us() < until) {
        }
        PyEval_ReleaseThread(other);
        PyEval_AcquireThread(own);
    }
    change_at = now_us() + usual * 4 / 5;
}

void qv_gil_keep(void)
{
    if (now_us() >= change_at) {
        change_hands();
    }
}

void qv_gil_leave_batch(int state)
{
    if (other) {
        PyThreadState_Clear(other);
        PyThreadState_Delete(other);
        other = NULL;
    }
    if (loading) {
        choose(SHORT_US);
    }
    qv_gil_leave(state);
}
