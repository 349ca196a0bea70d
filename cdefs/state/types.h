/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The objects of qemu_vmstate.bindings._state: state that lies in memory exactly as the C
 * side sees it, with attributes at C speed and a range check on every store,
 * and the lock that Python and the migration hooks share.
 *
 * Nothing here knows QEMU.  Limited API, so that one build serves every
 * CPython from 3.11 on.
 */
#ifndef QV_STATE_TYPES_H
#define QV_STATE_TYPES_H

/* Python.h defines the feature macros, and comes first. */
#include "state/object_util.h"
#include "shared/cell.h"

typedef struct {
    PyObject_HEAD char *mem; /* owner: this object if owner is NULL, else owner */
    PyObject *owner;         /* strong; keeps mem alive */
    int size;                /* VMStructMeta has no larger ones */
    int lent;                /* see qv_memory_lend() */
} Memory;

/* The letters of numbers, as struct and the buffer protocol have them. */
#define QV_NUMBERS "?bBhHiIqQfd"

/*
 * One field of a layout, and at the same time one element of an array: an
 * array's inner Field says what its elements are.
 */
typedef struct {
    PyObject_HEAD PyObject *name; /* strong: str, "Class.field" */
    Py_ssize_t offset;
    Py_ssize_t size;  /* bytes it takes: for an array of all its elements */
    Py_ssize_t count; /* elements of an array, or how many it has room for */
    char kind;        /* of QV_NUMBERS, 's' a struct, 'a' an array, 'v' a counted one */
    PyObject *cls;    /* strong: the struct's class, or NULL */
    PyObject *inner;  /* strong: the elements' Field, or NULL */
    /* A counted array has number * multiply elements; where the number lies, seen from it. */
    Py_ssize_t num_delta;
    Py_ssize_t multiply;
    char num_kind;
    /* What a number may be; C relies on it where a count is declared. */
    long long low;
    unsigned long long high;
    bool checked; /* raw bytes could break what C relies on: only to be read */
} Field;

#define MAX_DIMENSIONS 8

typedef struct {
    PyObject_HEAD char *mem; /* owner: owner */
    PyObject *owner;         /* strong */
    Field *field;            /* strong; kind 'a' */
    Py_ssize_t shape[MAX_DIMENSIONS];
    Py_ssize_t strides[MAX_DIMENSIONS];
} Array;

typedef struct {
    PyObject_HEAD QvCell cell;
    PyObject *value; /* strong: what is guarded; or NULL */
} Cell;

#endif
