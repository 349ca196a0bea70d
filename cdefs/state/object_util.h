/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Helpers for types and methods of the _state extension. */
#ifndef QV_STATE_OBJECT_UTIL_H
#define QV_STATE_OBJECT_UTIL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Free an object of a heap type, at the end of its tp_dealloc. */
void qv_free_object(PyObject *obj);
/* Call obj.name() with the arguments of a METH_FASTCALL | METH_KEYWORDS function. */
PyObject *qv_call(PyObject *obj, const char *name, PyObject *const *args, Py_ssize_t count,
                  PyObject *names);
/* Return bytes with a copy of the memory, which may be large; NULL with an exception. */
PyObject *qv_new_bytes(const void *memory, size_t size);

#endif
