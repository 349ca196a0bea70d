/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversions between Python objects and memory; they return -1 or NULL with an exception set. */
#ifndef QV_STATE_VALUES_H
#define QV_STATE_VALUES_H

#include "state/types.h"

/* Set once by the module, and never freed. */
extern PyTypeObject *qv_field_type, *qv_array_type;

/* Set the function that creates the exception of a refused store; see module.c. */
PyObject *qv_set_error_factory(PyObject *module, PyObject *factory);

PyObject *qv_make_view(PyObject *cls, char *mem, PyObject *owner);
PyObject *qv_load_value(Field *field, char *p, PyObject *owner);
/*
 * Store a value in the memory of owner, a Memory.  index: the element's, for the message; negative
 * if it is no element.
 */
int qv_store_value(Field *field, char *p, PyObject *value, Py_ssize_t index, PyObject *owner);
/* Store all elements or, if one is refused, none. */
int qv_store_elements(Field *field, char *p, PyObject *value, Py_ssize_t first, Py_ssize_t count,
                      PyObject *owner);
/* Return the Field of an array that is an element of an array, with its index in the name. */
Field *qv_name_row(Field *field, Py_ssize_t index);
/* Read and write a number that counts, of a kind in "BHIiQ"; a count that no array has is less. */
long long qv_read_counter(char kind, const char *p);
void qv_write_counter(char kind, char *p, Py_ssize_t n);
/* Return the current number of an array's elements, which is never above its capacity. */
Py_ssize_t qv_count(Field *field, const char *p);

#endif
