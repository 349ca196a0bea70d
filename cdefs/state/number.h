/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A number in memory whose store is fast for what nearly all values are. */
#ifndef QV_STATE_NUMBER_H
#define QV_STATE_NUMBER_H

#include "state/types.h"

typedef struct {
    Field *field; /* strong: its owner drops it; or NULL */
    /* The ints that are stored without its help; none if low is greater. */
    long long low, high;
} Number;

/* Set a number to a field, whose kind is of QV_NUMBERS; takes a reference. */
void qv_number_set(Number *number, PyObject *field);
/* Store a value at an offset; -1 with an exception.  memory->mem may move during the call. */
int qv_number_store(const Number *number, Memory *memory, Py_ssize_t at, PyObject *value);

#endif
