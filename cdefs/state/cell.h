/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cell, the lock of a Mutex or BqlRefCell; see module.c for the functions. */
#ifndef QV_STATE_CELL_H
#define QV_STATE_CELL_H

#include "state/types.h"

/* Set by the module, for the process's life. */
extern PyTypeObject *qv_cell_type;
extern PyType_Spec qv_cell_spec;

/* The QvCells of a tuple of Cells, which the caller frees; NULL with an exception. */
QvCell **qv_cells_of(PyObject *tuple, size_t *n);
PyObject *qv_lock_cells(PyObject *module, PyObject *tuple);
PyObject *qv_unlock_cells(PyObject *module, PyObject *tuple);

#endif
