/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lock of a Mutex or BqlRefCell.  Python (state/cell.c) and QEMU's hooks
 * (bridge/snapshot.c) lock the same struct, so that neither has to call the other.
 */
#ifndef QV_CELL_H
#define QV_CELL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* The members that an uncontended lock uses come first, in one cache line. */
typedef struct QvCell {
    pthread_mutex_t mutex;
    /* 0 if unlocked.  Read without the mutex: a thread finds itself here only if it is the owner. */
    pthread_t owner;
    /* The number of threads that wait for the turnstile or the mutex. */
    int waiting;
    /* Guarded by mutex: an exception propagated out of a guard, so invariants may be broken. */
    bool poisoned;
    /* Guarded by mutex: the owner holds all cells of an object, and may lock this one again. */
    bool held_by_group;
    /* Guarded by the BQL: -1 while mutably borrowed, n > 0 for n shared borrows. */
    int16_t borrow;
    /*
     * Held by the thread that waits for mutex.  Without it, a thread that locks again
     * directly after it has unlocked always overtakes a waiter, which must first wake up,
     * and a migration could wait for a busy device for ever.
     * Owner: this cell.  NULL until a thread has to wait.
     */
    pthread_mutex_t *turnstile;
} QvCell;

static inline void qv_cell_init(QvCell *cell)
{
    *cell = (QvCell){ .mutex = PTHREAD_MUTEX_INITIALIZER };
}

static inline void qv_cell_destroy(QvCell *cell)
{
    pthread_mutex_destroy(&cell->mutex);
    if (cell->turnstile) {
        pthread_mutex_destroy(cell->turnstile);
        free(cell->turnstile);
    }
}

/* Return the cell's turnstile; NULL if there is no memory for one, and threads wait without. */
static inline pthread_mutex_t *qv_cell_turnstile(QvCell *cell)
{
    pthread_mutex_t *turnstile = __atomic_load_n(&cell->turnstile, __ATOMIC_ACQUIRE);
    pthread_mutex_t *created;

    if (turnstile) {
        return turnstile;
    }
    created = malloc(sizeof(*created));
    if (!created) {
        return NULL;
    }
    pthread_mutex_init(created, NULL);
    if (__atomic_compare_exchange_n(&cell->turnstile, &turnstile, created, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return created;
    }
    pthread_mutex_destroy(created);
    free(created);
    return turnstile;
}

static inline bool qv_cell_is_mine(QvCell *cell)
{
    return __atomic_load_n(&cell->owner, __ATOMIC_RELAXED) == pthread_self();
}

static inline void qv_cell_own(QvCell *cell)
{
    __atomic_store_n(&cell->owner, pthread_self(), __ATOMIC_RELAXED);
}

/* Return 0, or EBUSY if any thread has the cell or another one waits for it. */
static inline int qv_cell_trylock(QvCell *cell)
{
    int ret = EBUSY;

    if (!__atomic_load_n(&cell->waiting, __ATOMIC_RELAXED)) {
        ret = pthread_mutex_trylock(&cell->mutex);
    }
    if (ret == 0) {
        qv_cell_own(cell);
    }
    return ret;
}

static inline int qv_cell_wait(QvCell *cell, const struct timespec *until)
{
    pthread_mutex_t *turnstile = qv_cell_turnstile(cell);
    int ret = 0;

    __atomic_add_fetch(&cell->waiting, 1, __ATOMIC_RELAXED);
    if (turnstile) {
        ret = until ? pthread_mutex_clocklock(turnstile, CLOCK_MONOTONIC, until)
                    : pthread_mutex_lock(turnstile);
    }
    if (ret == 0) {
        ret = until ? pthread_mutex_clocklock(&cell->mutex, CLOCK_MONOTONIC, until)
                    : pthread_mutex_lock(&cell->mutex);
        if (turnstile) {
            pthread_mutex_unlock(turnstile);
        }
    }
    __atomic_sub_fetch(&cell->waiting, 1, __ATOMIC_RELAXED);
    if (ret == 0) {
        qv_cell_own(cell);
    }
    return ret;
}

/*
 * Return 0; EDEADLK if this thread has the cell; ETIMEDOUT at until, a time of CLOCK_MONOTONIC,
 * or NULL to wait for ever.
 */
static inline int qv_cell_lock(QvCell *cell, const struct timespec *until)
{
    if (qv_cell_trylock(cell) == 0) {
        return 0;
    }
    return qv_cell_is_mine(cell) ? EDEADLK : qv_cell_wait(cell, until);
}

/* Return 0, or EPERM if this thread does not have the cell. */
static inline int qv_cell_unlock(QvCell *cell)
{
    if (!qv_cell_is_mine(cell)) {
        return EPERM;
    }
    __atomic_store_n(&cell->owner, 0, __ATOMIC_RELAXED);
    return pthread_mutex_unlock(&cell->mutex);
}

#endif
