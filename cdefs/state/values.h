/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between Python objects and memory; negative or NULL with an exception set. */
#ifndef QV_STATE_VALUES_H
#define QV_STATE_VALUES_H

#include "state/types.h"

/* Set by the module, for the process's life: views of arrays and rows are made of these. */
extern PyTypeObject *qv_field_type, *qv_array_type;

/* Set what makes the exception of a refused store; see module.c. */
PyObject *qv_set_error_factory(PyObject *module, PyObject *factory);

PyObject *qv_make_view(PyObject *cls, char *mem, PyObject *owner);
PyObject *qv_load_value(Field *field, char *p, PyObject *owner);
/* index: of an element, for the message; negative: a field of its own. */
int qv_store_value(Field *field, char *p, PyObject *value, Py_ssize_t index);
int qv_store_elements(Field *field, char *p, PyObject *value, Py_ssize_t first, Py_ssize_t count);
Field *qv_name_row(Field *field, Py_ssize_t index);
/* How many elements an array has now; never more than it has room for. */
Py_ssize_t qv_count(Field *field, const char *p);

#endif
