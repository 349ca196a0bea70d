/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cell, the base of Mutex and BqlRefCell; module.c documents the functions. */
#ifndef QV_STATE_CELL_H
#define QV_STATE_CELL_H

#include "state/types.h"

/* Set once by the module, and never freed. */
extern PyTypeObject *qv_cell_type;
extern PyType_Spec qv_cell_spec;

/* Return the QvCells of a tuple of Cells, to be freed by the caller; NULL with an exception. */
QvCell **qv_cells_of(PyObject *tuple, size_t *n);
PyObject *qv_lock_cells(PyObject *module, PyObject *tuple);
PyObject *qv_unlock_cells(PyObject *module, PyObject *tuple);

#endif
