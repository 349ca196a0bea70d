/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Locking several Mutexes at once, for objects whose parts must be saved in one consistent state. */
#ifndef QV_CELLS_H
#define QV_CELLS_H

#include <stddef.h>

#include "shared/cell.h"

/* Milliseconds that a thread waits for a cell while it holds others; doubled at each retry. */
#define QV_CELLS_BACKOFF 16
#define QV_CELLS_BACKOFF_MAX 1024

static inline struct timespec qv_cells_until(int milliseconds)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    return until;
}

static inline void qv_cells_set_held_by_group(QvCell *const *cells, size_t n, bool held_by_group)
{
    while (n--) {
        cells[n]->held_by_group = held_by_group;
    }
}

static inline void qv_cells_unlock(QvCell *const *cells, size_t n)
{
    qv_cells_set_held_by_group(cells, n, false);
    while (n--) {
        qv_cell_unlock(cells[n]);
    }
}

/* Lock all cells or none, without waiting.  Return 0, or EBUSY. */
static inline int qv_cells_trylock(QvCell *const *cells, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (qv_cell_trylock(cells[i])) {
            qv_cells_unlock(cells, i);
            return EBUSY;
        }
    }
    qv_cells_set_held_by_group(cells, n, true);
    return 0;
}

/*
 * Lock all of the distinct cells, or none.  Return 0, or EDEADLK and in *which the index of
 * one that this thread has already.
 *
 * There is no fixed order, because users lock single cells in any order.  A deadlock with a
 * thread that waits for one of ours ends after the backoff: this thread then unlocks all and
 * starts again with the cell that it could not get.
 */
static inline int qv_cells_lock(QvCell *const *cells, size_t n, size_t *which)
{
    int backoff = QV_CELLS_BACKOFF;
    size_t first = 0, held, i;
    int ret = 0;

    for (;;) {
        for (held = 0; held < n; held++) {
            struct timespec until;

            i = (first + held) % n;
            ret = qv_cell_trylock(cells[i]);
            if (ret && held) {
                until = qv_cells_until(backoff);
            }
            if (ret) {
                ret = qv_cell_lock(cells[i], held ? &until : NULL);
            }
            if (ret) {
                break;
            }
        }
        if (ret == 0) {
            qv_cells_set_held_by_group(cells, n, true);
            return 0;
        }
        *which = i;
        while (held--) {
            qv_cell_unlock(cells[(first + held) % n]);
        }
        if (ret != ETIMEDOUT) {
            return ret;
        }
        first = *which;
        backoff = backoff < QV_CELLS_BACKOFF_MAX ? 2 * backoff : backoff;
    }
}

#endif
