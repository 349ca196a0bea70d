/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The truth of a Mutex or BqlRefCell: one struct that Python (cell.c) and
 * QEMU's hooks (hooks.c) both lock, so neither needs the other to do it.
 */
#ifndef QV_CELL_H
#define QV_CELL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* What an uncontended lock touches comes first, for one cache line of each device. */
typedef struct QvCell {
    pthread_mutex_t mutex;
    /* 0: nobody.  A thread can only ever find itself here by owning it. */
    pthread_t owner;
    /* How many want the gate. */
    int waiting;
    /* Guarded by mutex: an exception left a guard, so invariants may be broken. */
    bool poisoned;
    /* Guarded by mutex: its thread holds all of an object's, and may lock this one again. */
    bool held_by_group;
    /* Guarded by the BQL: -1 mutably borrowed, n > 0 shared borrows. */
    int16_t borrow;
    /*
     * Held while one waits for mutex.  A thread that locks again as soon as it
     * has unlocked would else always be faster than one that must wake up, and
     * a migration could wait for ever for a busy device.
     * Owner: this cell; NULL until someone has had to wait.
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

/* NULL: there is no memory for one, and one waits without. */
static inline pthread_mutex_t *qv_cell_turnstile(QvCell *cell)
{
    pthread_mutex_t *turnstile = __atomic_load_n(&cell->turnstile, __ATOMIC_ACQUIRE);
    pthread_mutex_t *made;

    if (turnstile) {
        return turnstile;
    }
    made = malloc(sizeof(*made));
    if (!made) {
        return NULL;
    }
    pthread_mutex_init(made, NULL);
    if (__atomic_compare_exchange_n(&cell->turnstile, &turnstile, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        return made;
    }
    pthread_mutex_destroy(made);
    free(made);
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

/* 0; EBUSY: another thread has it or waits for it, or this one has it. */
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

/* 0; EDEADLK: this thread has it; ETIMEDOUT at until (CLOCK_MONOTONIC; NULL: never). */
static inline int qv_cell_lock(QvCell *cell, const struct timespec *until)
{
    if (qv_cell_trylock(cell) == 0) {
        return 0;
    }
    return qv_cell_is_mine(cell) ? EDEADLK : qv_cell_wait(cell, until);
}

/* 0, or EPERM: another thread has it, or none. */
static inline int qv_cell_unlock(QvCell *cell)
{
    if (!qv_cell_is_mine(cell)) {
        return EPERM;
    }
    __atomic_store_n(&cell->owner, 0, __ATOMIC_RELAXED);
    return pthread_mutex_unlock(&cell->mutex);
}

#endif
