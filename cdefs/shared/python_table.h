/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast path into Python, for what hooks.c asks most: states that only
 * convert themselves, each in a Mutex.  It has no Python.h; _state has, and
 * hands this table over.
 */
#ifndef QV_PYTHON_TABLE_H
#define QV_PYTHON_TABLE_H

#include <stdbool.h>

/* Nothing was changed; everything has to be asked of the slow path (callbacks.h). */
#define QV_FALL_BACK 1

/* What C copies beside Python, under the same locks, once that has succeeded; or NULL. */
typedef void QvWithLocks(void *object);

typedef struct QvPython {
    /* Take the GIL, and give it back; what the first returned is for the second. */
    int (*enter)(void);
    void (*leave)(int state);
    /* With the GIL: 0, a negative errno with a sentence in *errmsg, or QV_FALL_BACK. */
    int (*snapshot)(void *fast_path, QvWithLocks *with_locks, void *object, char **errmsg);
    /* undo: where to leave what rolls it back (owner: then the caller), or NULL. */
    int (*restore)(void *fast_path, int version_id, void **undo, QvWithLocks *with_locks,
                   void *object, char **errmsg);
    /* With the GIL: give back what restore() left in *undo, which was not rolled back. */
    void (*release)(void *undo);
} QvPython;

#endif
