/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The functions of _state that the bridge calls: it cannot include Python.h itself.  The fast
 * path serves the most frequent objects, whose parts are Mutexes and convert themselves.
 */
#ifndef QV_PYTHON_TABLE_H
#define QV_PYTHON_TABLE_H

#include <stdbool.h>

/* The fast path cannot serve this call and has changed nothing: take the slow path (callbacks.h). */
#define QV_FALL_BACK 1

/* Copies the native parts under the same locks, after Python has succeeded. */
typedef void QvWithLocks(void *object);

typedef struct QvPython {
    /* Acquire and release the GIL; leave() gets what enter() returned. */
    int (*enter)(void);
    void (*leave)(int state);
    /* As these, for a batch: with keep() between two objects it is rarely interrupted. */
    int (*enter_batch)(void);
    void (*keep)(void);
    void (*leave_batch)(int state);
    /* Between these, threads that wait for the GIL, as a batch will, get it sooner. */
    void (*begin_load)(void);
    void (*end_load)(void);
    /*
     * Return 0, a negative errno with a message in *errmsg, or QV_FALL_BACK.  The caller has
     * the GIL; with_locks may be NULL.  preserve: not for a save, but for a load to begin with.
     */
    int (*snapshot)(void *fast_path, int preserve, QvWithLocks *with_locks, void *object,
                    char **errmsg);
    /* As snapshot().  undo: where to put the undo record, which the caller then owns; or NULL. */
    int (*restore)(void *fast_path, int version_id, void **undo, QvWithLocks *with_locks,
                   void *object, char **errmsg);
    /* Release an undo record of restore() that was not rolled back.  The caller has the GIL. */
    void (*release)(void *undo);
} QvPython;

#endif
