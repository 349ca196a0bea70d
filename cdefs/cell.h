/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The truth of a Mutex or BqlRefCell: one struct that Python (state.c) and
 * QEMU's hooks (bridge.c) both lock, so neither needs the other to do it.
 */
#ifndef QV_CELL_H
#define QV_CELL_H

#include <pthread.h>

typedef struct QvCell {
    /* PTHREAD_MUTEX_ERRORCHECK: a thread that locks twice gets EDEADLK. */
    pthread_mutex_t mutex;
    /* Guarded by mutex: an exception left a guard, so invariants may be broken. */
    int poisoned;
    /* Guarded by the BQL: -1 mutably borrowed, n > 0 shared borrows. */
    int borrow;
} QvCell;

#endif
