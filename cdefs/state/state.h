/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The types of qemu_vmstate.bindings._state: state that lies in memory exactly as the C
 * side sees it, with attributes at C speed and a range check on every store,
 * and the lock that Python and the migration hooks share.
 *
 * Nothing here knows QEMU.  Limited API, so that one build serves every
 * CPython from 3.11 on.
 */
#ifndef QV_STATE_H
#define QV_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "shared/cell.h"

typedef struct {
    PyObject_HEAD
    char *mem;          /* owner: this object if owner is NULL, else owner */
    PyObject *owner;    /* strong; keeps mem alive */
    int size;           /* VMStructMeta has no larger ones */
    int lent;           /* see qv_memory_lend() */
} Memory;

/*
 * One field of a layout, and at the same time one element of an array: an
 * array's inner Field says what its elements are.
 */
typedef struct {
    PyObject_HEAD
    PyObject *name;     /* strong: str, "Class.field" */
    Py_ssize_t offset;
    Py_ssize_t size;    /* bytes it takes: for an array of all its elements */
    Py_ssize_t count;   /* elements of an array, or how many it has room for */
    char kind;          /* struct's scalar letters, 's' a struct, 'a' an array, 'v' a counted one */
    PyObject *cls;      /* strong: the struct's class, or NULL */
    PyObject *inner;    /* strong: the elements' Field, or NULL */
    /* A counted array has number * multiply elements; where the number lies, seen from it. */
    Py_ssize_t num_delta;
    Py_ssize_t multiply;
    char num_kind;
    /* What a number may be; C relies on it where a count is declared. */
    long long low;
    unsigned long long high;
    bool checked;       /* raw bytes could break what C relies on: only to be read */
} Field;

#define MAX_DIMENSIONS 8

typedef struct {
    PyObject_HEAD
    char *mem;          /* owner: owner */
    PyObject *owner;    /* strong */
    Field *field;       /* strong; kind 'a' */
    Py_ssize_t shape[MAX_DIMENSIONS];
    Py_ssize_t strides[MAX_DIMENSIONS];
} Array;

typedef struct {
    PyObject_HEAD
    QvCell cell;
    PyObject *value;    /* strong: what is guarded; or NULL */
} Cell;

/* The module's, for the process's life. */
extern PyTypeObject *qv_memory_type, *qv_field_type, *qv_array_type, *qv_cell_type;
extern PyType_Spec qv_memory_spec, qv_field_spec, qv_array_spec, qv_cell_spec;
extern PyType_Spec qv_trampoline_spec;
/* trampoline.c: what the bridge calls. */
extern const struct QvPython qv_python;
/* Makes the exception of a refused store; set by Python. */
extern PyObject *qv_error_factory;

/* values.c: between Python objects and memory; negative with an exception set. */
PyObject *qv_make_view(PyObject *cls, char *mem, PyObject *owner);
PyObject *qv_load_value(Field *field, char *p, PyObject *owner);
/* index: of an element, for the sentence; negative: a field of its own. */
int qv_store_value(Field *field, char *p, PyObject *value, Py_ssize_t index);
int qv_store_elements(Field *field, char *p, PyObject *value, Py_ssize_t first,
                      Py_ssize_t count);
Field *qv_name_row(Field *field, Py_ssize_t index);
/* How many elements an array has now; never more than it has room for. */
Py_ssize_t qv_count(Field *field, const char *p);

/* trampoline.c: see state.c. */
PyObject *qv_add_formers(PyObject *module, PyObject *entry);
PyObject *qv_take_formers(PyObject *module, PyObject *count);
/* mutex.c: the QvCells of a tuple of Cells, which the caller frees; NULL with an exception. */
QvCell **qv_cells_of(PyObject *tuple, size_t *n);
/* See state.c. */
PyObject *qv_lock_cells(PyObject *module, PyObject *tuple);
PyObject *qv_unlock_cells(PyObject *module, PyObject *tuple);
/* guard.c: obj.name(...) with what a METH_FASTCALL | METH_KEYWORDS function got. */
PyObject *qv_call(PyObject *obj, const char *name, PyObject *const *args, Py_ssize_t count,
                  PyObject *names);
/* See state.c. */
PyTypeObject *qv_new_guard_type(void);
PyObject *qv_new_mutex_lock(void);
PyObject *qv_set_guard(PyObject *module, PyObject *cls);
PyObject *qv_see_locks(PyObject *module, PyObject *on);
/* bql.c: see state.c. */
PyObject *qv_state_set_bql(PyObject *module, PyObject *address);
PyObject *qv_state_bql_lock(PyObject *module, PyObject *unused);
PyObject *qv_state_bql_unlock(PyObject *module, PyObject *unused);
PyObject *qv_state_bql_locked(PyObject *module, PyObject *unused);

/* layout.c: copy an instance's memory into another of its class; None, or NULL. */
PyObject *qv_assign(PyObject *target, PyObject *source);
/* The methods of VMStruct; see layout.py. */
PyObject *qv_new_memory_snapshot(void);
PyObject *qv_new_memory_restore(void);
/* What an instance of a layout class holds at rest; -1 with an exception. */
int qv_get_image(PyObject *cls, Py_buffer *image);
/*
 * An instance over the same memory, for one call; NULL with an exception.  The call may keep
 * it: what gives out a pointer into it, and the end of the call, take a copy first.
 */
PyObject *qv_memory_lend(Memory *memory);
/* End that, and give the reference back; -1 with an exception. */
int qv_memory_end_loan(PyObject *lent);
/* What every tp_dealloc here ends with. */
void qv_free_object(PyObject *obj);

#endif
