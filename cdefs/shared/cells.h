/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several Mutexes at once: for an object whose parts must not be seen apart. */
#ifndef QV_CELLS_H
#define QV_CELLS_H

#include <stddef.h>

#include "shared/cell.h"

/* Milliseconds: how long one waits for a cell and keeps the others; doubled each time. */
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

/* All of them or none, without waiting: 0, or EBUSY. */
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
 * Locks all of the distinct cells, or none: 0, or EDEADLK and which of them this
 * thread has.  Users lock them in any order.  Who holds one that this wants and
 * wants one that this holds gets it when this runs out of patience, lets go of
 * all and begins anew with the one it could not have.
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
