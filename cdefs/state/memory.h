/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory, the base of layout classes. */
#ifndef QV_STATE_MEMORY_H
#define QV_STATE_MEMORY_H

#include "state/types.h"

/* Set once by the module, and never freed. */
extern PyTypeObject *qv_memory_type;
extern PyType_Spec qv_memory_spec;

/* Copy source's memory into target, of the same class; None, or NULL with an exception. */
PyObject *qv_assign(PyObject *target, PyObject *source);
/* Return the Memory that owns the memory of another, or of itself. */
Memory *qv_memory_root(PyObject *memory);
/* Return a method descriptor for VMStruct; see layout/vmstruct.py. */
PyObject *qv_new_memory_snapshot(void);
PyObject *qv_new_memory_restore(void);
/* Get the initial bytes of a layout class's instances; -1 with an exception. */
int qv_get_image(PyObject *cls, Py_buffer *image);
/* Return whether a class's raw bytes are read-only for Python; -1 with an exception. */
int qv_is_checked(PyObject *cls);
/*
 * Return an instance that borrows the memory for one call; NULL with an exception.  If the
 * callee keeps a reference to it, or gets a pointer into it, it gets a copy of the memory first.
 */
PyObject *qv_memory_borrow(Memory *memory);
/* End the borrow, and drop the reference; -1 with an exception. */
int qv_memory_end_borrow(PyObject *borrowed);
/* Replace the borrowed memory of an instance by a copy of its own; -1 with an exception. */
int qv_memory_own(Memory *memory);

#endif
