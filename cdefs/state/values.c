/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversions between Python objects and memory, with a range check on every store. */
#include "state/values.h"
#include "state/memory.h"

PyTypeObject *qv_field_type, *qv_array_type;
/* A strong reference, never dropped. */
static PyObject *error_factory;

PyObject *qv_set_error_factory(PyObject *module, PyObject *factory)
{
    (void)module;
    Py_INCREF(factory);
    Py_XDECREF(error_factory);
    error_factory = factory;
    Py_RETURN_NONE;
}

static void refuse(Field *field, Py_ssize_t index, PyObject *value, const char *reason)
{
    PyObject *exc;

    if (!error_factory) {
        PyErr_SetString(PyExc_SystemError, "qemu_vmstate.bindings._state is not set up");
        return;
    }
    exc = PyObject_CallFunction(error_factory, "OnOs", field, index, value, reason);
    if (exc) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
}

PyObject *qv_make_view(PyObject *cls, char *mem, PyObject *owner)
{
    Memory *self = (Memory *)PyType_GenericAlloc((PyTypeObject *)cls, 0);

    if (self) {
        self->mem = mem;
        self->size = 0;
        Py_INCREF(owner);
        self->owner = owner;
    }
    return (PyObject *)self;
}

PyObject *qv_load_value(Field *field, char *p, PyObject *owner)
{
    switch (field->kind) {
    case '?':
        return PyBool_FromLong(*(uint8_t *)p != 0);
    case 'b':
        return PyLong_FromLong(*(int8_t *)p);
    case 'B':
        return PyLong_FromLong(*(uint8_t *)p);
    case 'h':
        return PyLong_FromLong(*(int16_t *)p);
    case 'H':
        return PyLong_FromLong(*(uint16_t *)p);
    case 'i':
        return PyLong_FromLong(*(int32_t *)p);
    case 'I':
        return PyLong_FromLongLong(*(uint32_t *)p);
    case 'q':
        return PyLong_FromLongLong(*(int64_t *)p);
    case 'Q':
        return PyLong_FromUnsignedLongLong(*(uint64_t *)p);
    case 'f':
        return PyFloat_FromDouble(*(float *)p);
    case 'd':
        return PyFloat_FromDouble(*(double *)p);
    case 's': {
        PyObject *view = qv_make_view(field->cls, p, owner);

        if (view) {
            ((Memory *)view)->size = field->size;
        }
        return view;
    }
    case 'a':
    case 'v': {
        Array *view = (Array *)PyType_GenericAlloc(qv_array_type, 0);

        if (view) {
            view->mem = p;
            Py_INCREF(owner);
            view->owner = owner;
            Py_INCREF((PyObject *)field);
            view->field = field;
        }
        return (PyObject *)view;
    }
    default:
        PyErr_Format(PyExc_SystemError, "a field of kind '%c'", field->kind);
        return NULL;
    }
}

Field *qv_name_row(Field *field, Py_ssize_t index)
{
    Field *inner = (Field *)field->inner, *row, *element;
    PyObject *name = PyUnicode_FromFormat("%U[%zd]", field->name, index);

    if (!name) {
        return NULL;
    }
    row = (Field *)PyObject_CallFunction((PyObject *)qv_field_type, "OCnnnOO", name, field->kind,
                                         field->offset, field->size, field->count, Py_None,
                                         field->inner);
    element = row ? (Field *)PyObject_CallFunction((PyObject *)qv_field_type, "OCnnnOO", name,
                                                   inner->kind, inner->offset, inner->size,
                                                   inner->count, inner->cls ? inner->cls : Py_None,
                                                   inner->inner ? inner->inner : Py_None)
                  : NULL;
    Py_DECREF(name);
    if (!element) {
        Py_XDECREF((PyObject *)row);
        return NULL;
    }
    Py_DECREF(row->inner);
    row->inner = (PyObject *)element;
    return row;
}

static int store_signed(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    int overflow = 0;
    long long v = PyLong_AsLongLongAndOverflow(value, &overflow);

    if (v == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow || v < field->low || (v > 0 && (unsigned long long)v > field->high)) {
        refuse(field, index, value, "range");
        return -1;
    }
    switch (field->kind) {
    case 'b':
        *(int8_t *)p = v;
        break;
    case 'h':
        *(int16_t *)p = v;
        break;
    case 'i':
        *(int32_t *)p = v;
        break;
    default:
        *(int64_t *)p = v;
        break;
    }
    return 0;
}

static int store_unsigned(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    unsigned long long v = PyLong_AsUnsignedLongLong(value);
    bool out = false;

    if (v == (unsigned long long)-1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        out = true;
    }
    if (out || v > field->high || (field->low > 0 && v < (unsigned long long)field->low)) {
        refuse(field, index, value, "range");
        return -1;
    }
    switch (field->kind) {
    case '?':
    case 'B':
        *(uint8_t *)p = v;
        break;
    case 'H':
        *(uint16_t *)p = v;
        break;
    case 'I':
        *(uint32_t *)p = v;
        break;
    default:
        *(uint64_t *)p = v;
        break;
    }
    return 0;
}

static int store_float(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    double v;

    if (!PyFloat_Check(value) && !PyIndex_Check(value)) {
        refuse(field, index, value, "type");
        return -1;
    }
    v = PyFloat_AsDouble(value);
    if (v == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            refuse(field, index, value, "range");
        }
        return -1;
    }
    if (field->kind == 'd') {
        *(double *)p = v;
    } else if (isfinite(v) && !isfinite((float)v)) {
        refuse(field, index, value, "range");
        return -1;
    } else {
        *(float *)p = v;
    }
    return 0;
}

/* A numpy comparison returns a numpy bool, which has no __index__(). */
static bool is_numpy_bool(PyObject *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(value));
    bool found = name
                 && (PyUnicode_CompareWithASCIIString(name, "bool") == 0
                     || PyUnicode_CompareWithASCIIString(name, "bool_") == 0);

    Py_XDECREF(name);
    return found;
}

static int store_whole(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    switch (field->kind) {
    case 'b':
    case 'h':
    case 'i':
    case 'q':
        return store_signed(field, p, value, index);
    default:
        return store_unsigned(field, p, value, index);
    }
}

static int store_scalar(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    PyObject *number;
    int ret;

    if (field->kind == 'f' || field->kind == 'd') {
        return store_float(field, p, value, index);
    }
    if (PyLong_CheckExact(value) || PyLong_Check(value)) {
        return store_whole(field, p, value, index);
    }
    if (PyIndex_Check(value)) {
        number = PyNumber_Index(value);
    } else if (field->kind == '?' && is_numpy_bool(value)) {
        number = PyBool_FromLong(PyObject_IsTrue(value));
    } else {
        refuse(field, index, value, "type");
        return -1;
    }
    if (!number) {
        return -1;
    }
    ret = store_whole(field, p, number, index);
    Py_DECREF(number);
    return ret;
}

/* Copy bytes into an array of u8.  Return 1 if it is no such array, or value has no such buffer. */
static int store_bytes(Field *field, char *p, PyObject *value, Py_ssize_t count)
{
    Py_buffer view;

    if (((Field *)field->inner)->kind != 'B' || !PyObject_CheckBuffer(value)) {
        return 1;
    }
    if (PyObject_GetBuffer(value, &view, PyBUF_FORMAT | PyBUF_ND) < 0) {
        PyErr_Clear();
        return 1;
    }
    /* Signed bytes are numbers to be checked, not bytes. */
    if (view.ndim != 1 || (view.format && strcmp(view.format, "B"))) {
        PyBuffer_Release(&view);
        return 1;
    }
    if (view.len != count) {
        PyBuffer_Release(&view);
        refuse(field, -1, value, "length");
        return -1;
    }
    memmove(p, view.buf, count);
    PyBuffer_Release(&view);
    return 0;
}

int qv_store_elements(Field *field, char *p, PyObject *value, Py_ssize_t first, Py_ssize_t count,
                      PyObject *owner)
{
    Field *inner = (Field *)field->inner;
    PyObject *items = NULL;
    char *fresh = NULL; /* owner: this call */
    int ret = store_bytes(field, p, value, count);
    Py_ssize_t i;

    if (ret <= 0) {
        return ret;
    }
    ret = -1;
    if (!PySequence_Check(value) && !PyObject_HasAttrString(value, "__iter__")) {
        refuse(field, -1, value, "type");
        return -1;
    }
    items = PySequence_List(value);
    if (!items) {
        return -1;
    }
    if (PyList_Size(items) != count) {
        refuse(field, -1, value, "length");
        goto out;
    }
    fresh = PyMem_Malloc(count * inner->size + 1);
    if (!fresh) {
        PyErr_NoMemory();
        goto out;
    }
    memcpy(fresh, p, count * inner->size);
    for (i = 0; i < count; i++) {
        if (qv_store_value(inner, fresh + i * inner->size, PyList_GetItem(items, i), first + i,
                           owner)
            < 0) {
            goto out;
        }
    }
    memcpy(p, fresh, count * inner->size);
    ret = 0;
out:
    PyMem_Free(fresh);
    Py_DECREF(items);
    return ret;
}

long long qv_read_counter(char kind, const char *p)
{
    switch (kind) {
    case 'B':
        return *(const uint8_t *)p;
    case 'H':
        return *(const uint16_t *)p;
    case 'I':
        return *(const uint32_t *)p;
    case 'Q':
        /* No array is longer. */
        return *(const uint64_t *)p > INT32_MAX ? INT32_MAX : *(const uint64_t *)p;
    default:
        return *(const int32_t *)p;
    }
}

Py_ssize_t qv_count(Field *field, const char *p)
{
    long long n;

    if (field->kind == 'a') {
        return field->count;
    }
    n = qv_read_counter(field->num_kind, p + field->num_delta);
    if (n <= 0) {
        return 0;
    }
    return n > field->count / field->multiply ? field->count : n * field->multiply;
}

void qv_write_counter(char kind, char *p, Py_ssize_t n)
{
    switch (kind) {
    case 'B':
        *(uint8_t *)p = n;
        break;
    case 'H':
        *(uint16_t *)p = n;
        break;
    case 'Q':
        *(uint64_t *)p = n;
        break;
    default:
        *(uint32_t *)p = n;
        break;
    }
}

/* Give elements of a counted array their initial content, from first on to end. */
static int reset_elements(Field *field, char *p, Py_ssize_t first, Py_ssize_t end)
{
    Field *inner = (Field *)field->inner;
    Py_buffer image;

    if (first >= end) {
        return 0;
    }
    if (inner->kind != 's') {
        memset(p + first * inner->size, 0, (end - first) * inner->size);
        return 0;
    }
    if (qv_get_image(inner->cls, &image) < 0) {
        return -1;
    }
    for (; first < end; first++) {
        memcpy(p + first * inner->size, image.buf, inner->size);
    }
    PyBuffer_Release(&image);
    return 0;
}

/*
 * Set the number of elements of a counted array.  Those that it had before and has no more become
 * initial ones, so that equal arrays have equal memory and a greater number shows no old elements.
 */
static int set_count(Field *field, char *p, Py_ssize_t n, PyObject *owner)
{
    Py_ssize_t former = qv_count(field, p);
    Memory *root = qv_memory_root(owner);

    if (reset_elements(field, p, n, root->stale ? field->count : former) < 0) {
        return -1;
    }
    qv_write_counter(field->num_kind, p + field->num_delta, n / field->multiply);
    if (n < former && field->num && ((Field *)field->num)->counts > 1) {
        root->stale = true;
    }
    return 0;
}

/* Store all elements of a counted array, and their number. */
static int store_counted(Field *field, char *p, PyObject *value, Py_ssize_t index, PyObject *owner)
{
    Py_ssize_t n = PyObject_Size(value);
    PyObject *items = NULL;
    int ret;

    if (n < 0) {
        PyErr_Clear();
        if (!PyObject_HasAttrString(value, "__iter__")) {
            refuse(field, index, value, "type");
            return -1;
        }
        items = PySequence_List(value);
        if (!items) {
            return -1;
        }
        value = items;
        n = PyList_Size(items);
    }
    if (n > field->count || n % field->multiply) {
        refuse(field, index, value, "count");
        Py_XDECREF(items);
        return -1;
    }
    ret = qv_store_elements(field, p, value, 0, n, owner);
    if (ret == 0) {
        ret = set_count(field, p, n, owner);
    }
    Py_XDECREF(items);
    return ret;
}

/* Store a number that counts arrays, whose elements stay. */
static int store_count(Field *field, char *p, PyObject *value, Py_ssize_t index, PyObject *owner)
{
    long long former = qv_read_counter(field->kind, p);
    int ret = store_scalar(field, p, value, index);

    if (ret == 0 && qv_read_counter(field->kind, p) < former) {
        qv_memory_root(owner)->stale = true;
    }
    return ret;
}

int qv_store_value(Field *field, char *p, PyObject *value, Py_ssize_t index, PyObject *owner)
{
    switch (field->kind) {
    case 'v':
        return store_counted(field, p, value, index, owner);
    case 's':
        if (!PyObject_TypeCheck(value, (PyTypeObject *)field->cls)) {
            refuse(field, index, value, "struct");
            return -1;
        }
        memmove(p, ((Memory *)value)->mem, field->size);
        if (qv_memory_root(value)->stale) {
            qv_memory_root(owner)->stale = true;
        }
        return 0;
    case 'a': {
        Field *row = index < 0 ? NULL : qv_name_row(field, index);
        int ret;

        if (index >= 0 && !row) {
            return -1;
        }
        ret = qv_store_elements(row ? row : field, p, value, 0, field->count, owner);
        Py_XDECREF((PyObject *)row);
        return ret;
    }
    default:
        return field->counts ? store_count(field, p, value, index, owner)
                             : store_scalar(field, p, value, index);
    }
}
