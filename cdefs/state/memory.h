/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory, the base of layout classes. */
#ifndef QV_STATE_MEMORY_H
#define QV_STATE_MEMORY_H

#include "state/types.h"

/* Set by the module, for the process's life. */
extern PyTypeObject *qv_memory_type;
extern PyType_Spec qv_memory_spec;

/* Copy an instance's memory into another of its class; None, or NULL with an exception. */
PyObject *qv_assign(PyObject *target, PyObject *source);
/* The methods of VMStruct; see layout/vmstruct.py. */
PyObject *qv_new_memory_snapshot(void);
PyObject *qv_new_memory_restore(void);
/* The initial bytes of a layout class's instances; -1 with an exception. */
int qv_get_image(PyObject *cls, Py_buffer *image);
/* Return whether a class's raw bytes are only to be read; -1 with an exception. */
int qv_is_checked(PyObject *cls);
/*
 * An instance over the same memory, for one call; NULL with an exception.  The call may keep
 * it: what gives out a pointer into it, and the end of the call, take a copy first.
 */
PyObject *qv_memory_lend(Memory *memory);
/* End that, and give the reference back; -1 with an exception. */
int qv_memory_end_loan(PyObject *lent);
/* Give a lent instance memory of its own; -1 with an exception. */
int qv_memory_own(Memory *memory);

#endif
