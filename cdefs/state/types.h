/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The types of qemu_vmstate.bindings._state: state in memory with the layout of a C struct, with
 * attributes at C speed and a range check on every store, and the lock that Python and the
 * migration hooks share.
 *
 * The extension does not depend on QEMU.  It uses the limited API, so that one build serves
 * every CPython from 3.11 on.
 */
#ifndef QV_STATE_TYPES_H
#define QV_STATE_TYPES_H

/* Python.h must come first, because it defines the feature macros. */
#include "state/object_util.h"
#include "shared/cell.h"

typedef struct {
    PyObject_HEAD char *mem; /* owner: this object if owner is NULL, else owner */
    PyObject *owner;         /* strong: keeps mem alive; or NULL */
    int size;                /* VMStructMeta limits it to an int */
    int borrowed;            /* see qv_memory_borrow() */
    /* Elements beyond a count may not be the initial ones; true only of what no Memory owns. */
    int stale;
} Memory;

/* The letters of numbers, as struct and the buffer protocol have them. */
#define QV_NUMBERS "?bBhHiIqQfd"

/* A field of a layout class, or the elements of an array: those are its inner Field. */
typedef struct {
    PyObject_HEAD PyObject *name; /* strong: str, "Class.field" */
    Py_ssize_t offset;
    Py_ssize_t size;  /* in bytes; for an array, of all its elements */
    Py_ssize_t count; /* number of an array's elements, or its capacity */
    char kind;        /* of QV_NUMBERS, or 's' for a struct, 'a' an array, 'v' a counted array */
    PyObject *cls;    /* strong: the struct's class, or NULL */
    PyObject *inner;  /* strong: the elements' Field, or NULL */
    /* A counted array has number * multiply elements; num_delta: from the array to the number. */
    Py_ssize_t num_delta;
    Py_ssize_t multiply;
    char num_kind;
    PyObject *num; /* strong: the Field of that number; or NULL */
    int counts;    /* the arrays that this number counts */
    /* The range of a number; QEMU relies on that of a count. */
    long long low;
    unsigned long long high;
    bool checked; /* raw bytes are read-only, because QEMU relies on the checks of each store */
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
    PyObject *value; /* strong: the guarded state; or NULL */
} Cell;

#endif
