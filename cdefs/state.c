/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu_vmstate._state: state that lies in memory exactly as the C side sees
 * it, with attributes at C speed and a range check on every store, and the
 * lock that Python and the migration hooks share.
 *
 * Nothing here knows QEMU.  Limited API, so that one build serves every
 * CPython from 3.11 on.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "cell.h"

static PyTypeObject *memory_type;   /* owner: the module, for the process's life */
static PyTypeObject *field_type;    /* likewise */
static PyTypeObject *array_type;    /* likewise */
static PyTypeObject *cell_type;     /* likewise */
static PyObject *error_factory;     /* likewise; makes the exception of a refused store */

typedef struct {
    PyObject_HEAD
    char *mem;          /* owner: this object if owner is NULL, else owner */
    Py_ssize_t size;
    PyObject *owner;    /* strong; keeps mem alive */
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
    Py_ssize_t count;   /* elements of an array */
    char kind;          /* struct's scalar letters, 's' a struct, 'a' an array */
    PyObject *cls;      /* strong: the struct's class, or NULL */
    PyObject *inner;    /* strong: the elements' Field, or NULL */
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
    QvCell *cell;       /* owner: this object */
} Cell;

/* ------------------------------------------------------------ values */

static void refuse(Field *field, Py_ssize_t index, PyObject *value, const char *why)
{
    PyObject *exc;

    if (!error_factory) {
        PyErr_SetString(PyExc_SystemError, "qemu_vmstate._state is not set up");
        return;
    }
    exc = PyObject_CallFunction(error_factory, "OnOs", field, index, value, why);
    if (exc) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
}

static PyObject *make_view(PyObject *cls, char *mem, PyObject *owner)
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

static PyObject *load_value(Field *field, char *p, PyObject *owner)
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
        return PyLong_FromUnsignedLong(*(uint32_t *)p);
    case 'q':
        return PyLong_FromLongLong(*(int64_t *)p);
    case 'Q':
        return PyLong_FromUnsignedLongLong(*(uint64_t *)p);
    case 's': {
        PyObject *view = make_view(field->cls, p, owner);

        if (view) {
            ((Memory *)view)->size = field->size;
        }
        return view;
    }
    case 'a': {
        Array *view = (Array *)PyType_GenericAlloc(array_type, 0);

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

static int store_value(Field *field, char *p, PyObject *value, Py_ssize_t index);

/* An array that is an array's element, under the name its errors shall have. */
static Field *name_row(Field *field, Py_ssize_t index)
{
    Field *inner = (Field *)field->inner, *row, *element;
    PyObject *name = PyUnicode_FromFormat("%U[%zd]", field->name, index);

    if (!name) {
        return NULL;
    }
    row = (Field *)PyObject_CallFunction((PyObject *)field_type, "OCnnnOO", name, field->kind,
                                         field->offset, field->size, field->count, Py_None,
                                         field->inner);
    element = row ? (Field *)PyObject_CallFunction(
                        (PyObject *)field_type, "OCnnnOO", name, inner->kind, inner->offset,
                        inner->size, inner->count, inner->cls ? inner->cls : Py_None,
                        inner->inner ? inner->inner : Py_None) : NULL;
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
    static const char out[] = "range";
    int overflow = 0;
    long long v = PyLong_AsLongLongAndOverflow(value, &overflow);

    if (v == -1 && PyErr_Occurred()) {
        return -1;
    }
    switch (field->kind) {
    case 'b':
        overflow |= v < INT8_MIN || v > INT8_MAX;
        break;
    case 'h':
        overflow |= v < INT16_MIN || v > INT16_MAX;
        break;
    case 'i':
        overflow |= v < INT32_MIN || v > INT32_MAX;
        break;
    }
    if (overflow) {
        refuse(field, index, value, out);
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
    switch (field->kind) {
    case '?':
        out |= v > 1;
        break;
    case 'B':
        out |= v > UINT8_MAX;
        break;
    case 'H':
        out |= v > UINT16_MAX;
        break;
    case 'I':
        out |= v > UINT32_MAX;
        break;
    }
    if (out) {
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

/* What a numpy comparison gives; it is no index. */
static bool is_numpy_bool(PyObject *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(value));
    bool found = name && (PyUnicode_CompareWithASCIIString(name, "bool") == 0
                          || PyUnicode_CompareWithASCIIString(name, "bool_") == 0);

    Py_XDECREF(name);
    return found;
}

static int store_scalar(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    bool is_signed = strchr("bhiq", field->kind) != NULL;
    PyObject *number;
    int ret;

    if (PyLong_Check(value)) {
        return is_signed ? store_signed(field, p, value, index)
                         : store_unsigned(field, p, value, index);
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
    ret = is_signed ? store_signed(field, p, number, index)
                    : store_unsigned(field, p, number, index);
    Py_DECREF(number);
    return ret;
}

/* Bytes straight into an array of u8; 1: not such a pair, go the general way. */
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

/* All of value or nothing: a refused element leaves the array as it was. */
static int store_elements(Field *field, char *p, PyObject *value, Py_ssize_t first,
                          Py_ssize_t count)
{
    Field *inner = (Field *)field->inner;
    PyObject *items = NULL;
    char *fresh = NULL;     /* owner: this call */
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
        if (store_value(inner, fresh + i * inner->size, PyList_GetItem(items, i),
                        first + i) < 0) {
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

static int store_value(Field *field, char *p, PyObject *value, Py_ssize_t index)
{
    switch (field->kind) {
    case 's':
        if (!PyObject_TypeCheck(value, (PyTypeObject *)field->cls)) {
            refuse(field, index, value, "struct");
            return -1;
        }
        memmove(p, ((Memory *)value)->mem, field->size);
        return 0;
    case 'a': {
        Field *row = index < 0 ? NULL : name_row(field, index);
        int ret;

        if (index >= 0 && !row) {
            return -1;
        }
        ret = store_elements(row ? row : field, p, value, 0, field->count);
        Py_XDECREF((PyObject *)row);
        return ret;
    }
    default:
        return store_scalar(field, p, value, index);
    }
}

/* ------------------------------------------------------------- Field */

static PyObject *field_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "name", "kind", "offset", "size", "count", "cls", "inner", NULL };
    PyObject *name, *cls = NULL, *inner = NULL;
    Py_ssize_t offset, size, count = 0;
    int kind;
    Field *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UCnn|nOO", names, &name, &kind,
                                     &offset, &size, &count, &cls, &inner)) {
        return NULL;
    }
    if (cls == Py_None) {
        cls = NULL;
    }
    if (inner == Py_None) {
        inner = NULL;
    }
    if (offset < 0 || size <= 0 || count < 0 || !memchr("?bBhHiIqQsa", kind, 11)
        || (kind == 's') != (cls != NULL) || (kind == 'a') != (inner != NULL)
        || (cls && !PyType_Check(cls))
        || (cls && !PyType_IsSubtype((PyTypeObject *)cls, memory_type))
        || (inner && (!PyObject_TypeCheck(inner, field_type)
                      || count != size / ((Field *)inner)->size))) {
        PyErr_SetString(PyExc_SystemError, "a Field that describes no memory");
        return NULL;
    }
    self = (Field *)PyType_GenericAlloc(type, 0);
    if (!self) {
        return NULL;
    }
    Py_INCREF(name);
    Py_XINCREF(cls);
    Py_XINCREF(inner);
    self->name = name;
    self->offset = offset;
    self->size = size;
    self->count = count;
    self->kind = kind;
    self->cls = cls;
    self->inner = inner;
    return (PyObject *)self;
}

static int field_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Field *self = (Field *)obj;

    Py_VISIT(self->cls);
    Py_VISIT(self->inner);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static int field_clear(PyObject *obj)
{
    Field *self = (Field *)obj;

    Py_CLEAR(self->cls);
    Py_CLEAR(self->inner);
    return 0;
}

static void free_object(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    release(obj);
    Py_DECREF(type);
}

static void field_dealloc(PyObject *obj)
{
    PyObject_GC_UnTrack(obj);
    field_clear(obj);
    Py_CLEAR(((Field *)obj)->name);
    free_object(obj);
}

/* The memory under obj, or NULL with an exception when it is not this layout's. */
static Memory *memory_of(Field *field, PyObject *obj)
{
    Memory *memory = (Memory *)obj;

    if (!PyObject_TypeCheck(obj, memory_type)) {
        PyErr_Format(PyExc_TypeError, "%U: not a layout class instance", field->name);
        return NULL;
    }
    if (field->offset + field->size > memory->size) {
        PyErr_Format(PyExc_TypeError, "%U: lies outside this object's memory", field->name);
        return NULL;
    }
    return memory;
}

static PyObject *field_get(PyObject *descr, PyObject *obj, PyObject *type)
{
    Field *self = (Field *)descr;
    Memory *memory;

    (void)type;
    if (!obj || obj == Py_None) {
        Py_INCREF(descr);
        return descr;
    }
    memory = memory_of(self, obj);
    return memory ? load_value(self, memory->mem + self->offset, obj) : NULL;
}

static int field_set(PyObject *descr, PyObject *obj, PyObject *value)
{
    Field *self = (Field *)descr;
    Memory *memory = memory_of(self, obj);

    if (!memory) {
        return -1;
    }
    if (!value) {
        PyErr_Format(PyExc_AttributeError, "%U: a field cannot be deleted", self->name);
        return -1;
    }
    return store_value(self, memory->mem + self->offset, value, -1);
}

static PyMemberDef field_members[] = {
    { "name", T_OBJECT_EX, offsetof(Field, name), READONLY, NULL },
    { "offset", T_PYSSIZET, offsetof(Field, offset), READONLY, NULL },
    { "size", T_PYSSIZET, offsetof(Field, size), READONLY, NULL },
    { "count", T_PYSSIZET, offsetof(Field, count), READONLY, NULL },
    { "kind", T_CHAR, offsetof(Field, kind), READONLY, NULL },
    { "cls", T_OBJECT, offsetof(Field, cls), READONLY, NULL },
    { "inner", T_OBJECT, offsetof(Field, inner), READONLY, NULL },
    { 0 }
};

static PyType_Slot field_slots[] = {
    { Py_tp_doc, "One field of a layout class; a data descriptor." },
    { Py_tp_new, field_new },
    { Py_tp_dealloc, field_dealloc },
    { Py_tp_traverse, field_traverse },
    { Py_tp_clear, field_clear },
    { Py_tp_descr_get, field_get },
    { Py_tp_descr_set, field_set },
    { Py_tp_members, field_members },
    { 0, NULL }
};

static PyType_Spec field_spec = {
    "qemu_vmstate._state.Field", sizeof(Field), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, field_slots
};

/* ------------------------------------------------------------ Memory */

/* A class's size and its image at rest, both from its __layout__ attributes. */
static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *image = PyObject_GetAttrString((PyObject *)type, "__image__");
    char *bytes;
    Py_ssize_t size;
    Memory *self;

    (void)args;
    (void)kwargs;
    if (!image) {
        return NULL;
    }
    if (PyBytes_AsStringAndSize(image, &bytes, &size) < 0) {
        Py_DECREF(image);
        return NULL;
    }
    self = (Memory *)PyType_GenericAlloc(type, 0);
    if (self) {
        self->mem = PyMem_Malloc(size ? size : 1);
        if (!self->mem) {
            Py_CLEAR(self);
            PyErr_NoMemory();
        } else {
            memcpy(self->mem, bytes, size);
            self->size = size;
        }
    }
    Py_DECREF(image);
    return (PyObject *)self;
}

static int memory_init(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    PyObject *name, *value;
    Py_ssize_t pos = 0;

    if (PyTuple_Size(args)) {
        PyErr_SetString(PyExc_TypeError, "fields are given by name");
        return -1;
    }
    while (kwargs && PyDict_Next(kwargs, &pos, &name, &value)) {
        if (PyObject_SetAttr(obj, name, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int memory_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(((Memory *)obj)->owner);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static void memory_dealloc(PyObject *obj)
{
    Memory *self = (Memory *)obj;

    PyObject_GC_UnTrack(obj);
    if (self->owner) {
        Py_CLEAR(self->owner);
    } else {
        PyMem_Free(self->mem);
    }
    free_object(obj);
}

static int memory_getbuffer(PyObject *obj, Py_buffer *view, int flags)
{
    Memory *self = (Memory *)obj;

    return PyBuffer_FillInfo(view, obj, self->mem, self->size, 0, flags);
}

static PyObject *memory_richcompare(PyObject *a, PyObject *b, int op)
{
    bool same;

    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    same = memcmp(((Memory *)a)->mem, ((Memory *)b)->mem, ((Memory *)a)->size) == 0;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static PyType_Slot memory_slots[] = {
    { Py_tp_doc, "Memory that Python and C see alike; the base of layout classes." },
    { Py_tp_new, memory_new },
    { Py_tp_init, memory_init },
    { Py_tp_dealloc, memory_dealloc },
    { Py_tp_traverse, memory_traverse },
    { Py_tp_richcompare, memory_richcompare },
    { Py_tp_hash, PyObject_HashNotImplemented },
    { Py_bf_getbuffer, memory_getbuffer },
    { 0, NULL }
};

static PyType_Spec memory_spec = {
    "qemu_vmstate._state.Memory", sizeof(Memory), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, memory_slots
};

/* ------------------------------------------------------------- Array */

static int array_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(((Array *)obj)->owner);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static void array_dealloc(PyObject *obj)
{
    Array *self = (Array *)obj;

    PyObject_GC_UnTrack(obj);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->field);
    free_object(obj);
}

static Py_ssize_t array_length(PyObject *obj)
{
    return ((Array *)obj)->field->count;
}

static char *array_at(Array *self, Py_ssize_t i)
{
    return self->mem + i * ((Field *)self->field->inner)->size;
}

static PyObject *array_item(PyObject *obj, Py_ssize_t i)
{
    Array *self = (Array *)obj;
    Field *inner;

    if (i < 0 || i >= self->field->count) {
        PyErr_Format(PyExc_IndexError, "%U: index %zd of %zd elements", self->field->name, i,
                     self->field->count);
        return NULL;
    }
    inner = (Field *)self->field->inner;
    if (inner->kind == 'a') {
        Field *row = name_row(inner, i);
        PyObject *view = row ? load_value(row, array_at(self, i), self->owner) : NULL;

        Py_XDECREF((PyObject *)row);
        return view;
    }
    return load_value(inner, array_at(self, i), self->owner);
}

static PyObject *array_list(Array *self, Py_ssize_t start, Py_ssize_t step, Py_ssize_t n)
{
    PyObject *list = PyList_New(n);
    Py_ssize_t i;

    for (i = 0; list && i < n; i++) {
        PyObject *item = array_item((PyObject *)self, start + i * step);

        if (!item || PyList_SetItem(list, i, item) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static int array_index(Array *self, PyObject *key, Py_ssize_t *i)
{
    *i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (*i == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*i < 0) {
        *i += self->field->count;
    }
    if (*i < 0 || *i >= self->field->count) {
        PyErr_Format(PyExc_IndexError, "%U: index %S of %zd elements", self->field->name, key,
                     self->field->count);
        return -1;
    }
    return 0;
}

static PyObject *array_subscript(PyObject *obj, PyObject *key)
{
    Array *self = (Array *)obj;
    Py_ssize_t start, stop, step, i;

    if (PySlice_Check(key)) {
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return NULL;
        }
        return array_list(self, start, step,
                          PySlice_AdjustIndices(self->field->count, &start, &stop, step));
    }
    return array_index(self, key, &i) < 0 ? NULL : array_item(obj, i);
}

static int array_assign(PyObject *obj, PyObject *key, PyObject *value)
{
    Array *self = (Array *)obj;
    Py_ssize_t start, stop, step, i, n;

    if (!value) {
        PyErr_Format(PyExc_TypeError, "%U: elements cannot be deleted", self->field->name);
        return -1;
    }
    if (PySlice_Check(key)) {
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return -1;
        }
        n = PySlice_AdjustIndices(self->field->count, &start, &stop, step);
        if (step != 1) {
            PyErr_Format(PyExc_ValueError, "%U: only contiguous slices can be assigned",
                         self->field->name);
            return -1;
        }
        return store_elements(self->field, array_at(self, start), value, start, n);
    }
    if (array_index(self, key, &i) < 0) {
        return -1;
    }
    return store_value((Field *)self->field->inner, array_at(self, i), value, i);
}

static PyObject *array_richcompare(PyObject *a, PyObject *b, int op)
{
    PyObject *mine, *theirs, *result;

    if ((op != Py_EQ && op != Py_NE) || !PySequence_Check(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    mine = PySequence_List(a);
    theirs = mine ? PySequence_List(b) : NULL;
    result = theirs ? PyObject_RichCompare(mine, theirs, op) : NULL;
    Py_XDECREF(mine);
    Py_XDECREF(theirs);
    return result;
}

static PyObject *array_repr(PyObject *obj)
{
    Array *self = (Array *)obj;
    PyObject *list = array_list(self, 0, 1, self->field->count);
    PyObject *text = list ? PyObject_Repr(list) : NULL;

    Py_XDECREF(list);
    return text;
}

/* Rows of rows of numbers as many dimensions; structs, and what is deeper, as bytes. */
static int array_getbuffer(PyObject *obj, Py_buffer *view, int flags)
{
    static const char letters[] = "?bBhHiIqQ";
    static char formats[sizeof(letters)][2];
    Array *self = (Array *)obj;
    Field *element = self->field;
    const char *letter;
    int dimensions = 0;

    while (element->kind == 'a' && dimensions < MAX_DIMENSIONS) {
        self->shape[dimensions] = element->count;
        element = (Field *)element->inner;
        self->strides[dimensions++] = element->size;
    }
    if (PyBuffer_FillInfo(view, obj, self->mem, self->field->size, 0, flags) < 0) {
        return -1;
    }
    letter = strchr(letters, element->kind);
    if (!letter || !(flags & PyBUF_ND)) {
        return 0;
    }
    formats[letter - letters][0] = element->kind;
    view->itemsize = element->size;
    view->ndim = dimensions;
    view->shape = self->shape;
    if (flags & PyBUF_FORMAT) {
        view->format = formats[letter - letters];
    }
    if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES) {
        view->strides = self->strides;
    }
    return 0;
}

static PyType_Slot array_slots[] = {
    { Py_tp_doc, "A fixed array inside a layout class: a view, not a copy." },
    { Py_tp_dealloc, array_dealloc },
    { Py_tp_traverse, array_traverse },
    { Py_tp_richcompare, array_richcompare },
    { Py_tp_hash, PyObject_HashNotImplemented },
    { Py_tp_repr, array_repr },
    { Py_sq_length, array_length },
    { Py_sq_item, array_item },
    { Py_mp_length, array_length },
    { Py_mp_subscript, array_subscript },
    { Py_mp_ass_subscript, array_assign },
    { Py_bf_getbuffer, array_getbuffer },
    { 0, NULL }
};

static PyType_Spec array_spec = {
    "qemu_vmstate._state.ArrayView", sizeof(Array), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, array_slots
};

/* -------------------------------------------------------------- Cell */

static PyObject *cell_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Cell *self = (Cell *)PyType_GenericAlloc(type, 0);
    pthread_mutexattr_t attr;

    (void)args;
    (void)kwargs;
    if (!self) {
        return NULL;
    }
    self->cell = PyMem_Calloc(1, sizeof(QvCell));
    if (!self->cell) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&self->cell->mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    return (PyObject *)self;
}

static void cell_dealloc(PyObject *obj)
{
    Cell *self = (Cell *)obj;

    if (self->cell) {
        pthread_mutex_destroy(&self->cell->mutex);
        PyMem_Free(self->cell);
    }
    free_object(obj);
}

static PyObject *cell_acquire(PyObject *obj, PyObject *args)
{
    Cell *self = (Cell *)obj;
    double timeout = -1;
    int ret;

    if (!PyArg_ParseTuple(args, "|d", &timeout)) {
        return NULL;
    }
    ret = pthread_mutex_trylock(&self->cell->mutex);
    if (ret == EBUSY && timeout != 0) {
        Py_BEGIN_ALLOW_THREADS
        if (timeout < 0) {
            ret = pthread_mutex_lock(&self->cell->mutex);
        } else {
            struct timespec until;

            if (timeout > 1e9) {
                timeout = 1e9;
            }
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += (time_t)timeout;
            until.tv_nsec += (long)((timeout - (time_t)timeout) * 1e9);
            if (until.tv_nsec >= 1000000000L) {
                until.tv_nsec -= 1000000000L;
                until.tv_sec++;
            }
            ret = pthread_mutex_clocklock(&self->cell->mutex, CLOCK_MONOTONIC, &until);
        }
        Py_END_ALLOW_THREADS
    }
    return PyLong_FromLong(ret);
}

static PyObject *cell_release(PyObject *obj, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(pthread_mutex_unlock(&((Cell *)obj)->cell->mutex));
}

static PyObject *cell_get_address(PyObject *obj, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr(((Cell *)obj)->cell);
}

static PyObject *cell_get_int(PyObject *obj, void *closure)
{
    QvCell *cell = ((Cell *)obj)->cell;

    return PyLong_FromLong(closure ? cell->borrow : cell->poisoned);
}

static int cell_set_int(PyObject *obj, PyObject *value, void *closure)
{
    QvCell *cell = ((Cell *)obj)->cell;
    long v = value ? PyLong_AsLong(value) : 0;

    if (v == -1 && PyErr_Occurred()) {
        return -1;
    }
    *(closure ? &cell->borrow : &cell->poisoned) = v;
    return 0;
}

static PyMethodDef cell_methods[] = {
    { "acquire", cell_acquire, METH_VARARGS,
      "acquire(timeout=-1) -> errno: 0, EBUSY (timeout 0), ETIMEDOUT or EDEADLK.\n"
      "Releases the GIL while it waits; timeout in seconds, below 0 for ever." },
    { "release", cell_release, METH_NOARGS, "release() -> errno: 0, or EPERM: not the owner." },
    { 0 }
};

static PyGetSetDef cell_getset[] = {
    { "address", cell_get_address, NULL, "Where the QvCell lies, for the bridge.", NULL },
    { "poisoned", cell_get_int, cell_set_int, "Not 0: an exception left a guard.", NULL },
    { "borrow", cell_get_int, cell_set_int, "-1 mutably borrowed, n shared borrows.",
      (void *)1 },
    { 0 }
};

static PyType_Slot cell_slots[] = {
    { Py_tp_doc, "The lock of a Mutex or BqlRefCell, shared with the bridge." },
    { Py_tp_new, cell_new },
    { Py_tp_dealloc, cell_dealloc },
    { Py_tp_methods, cell_methods },
    { Py_tp_getset, cell_getset },
    { 0, NULL }
};

static PyType_Spec cell_spec = {
    "qemu_vmstate._state.Cell", sizeof(Cell), 0, Py_TPFLAGS_DEFAULT, cell_slots
};

/* ------------------------------------------------------------ module */

static PyObject *state_view(PyObject *module, PyObject *args)
{
    PyObject *cls, *address, *owner, *view;
    Py_ssize_t size;
    void *mem;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOnO", &cls, &address, &size, &owner)) {
        return NULL;
    }
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, memory_type)) {
        PyErr_SetString(PyExc_TypeError, "view() takes a layout class");
        return NULL;
    }
    mem = PyLong_AsVoidPtr(address);
    if (!mem) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "view() of address 0");
        }
        return NULL;
    }
    view = make_view(cls, mem, owner);
    if (view) {
        ((Memory *)view)->size = size;
    }
    return view;
}

static PyObject *state_address(PyObject *module, PyObject *obj)
{
    (void)module;
    if (!PyObject_TypeCheck(obj, memory_type)) {
        PyErr_SetString(PyExc_TypeError, "address() takes a layout class instance");
        return NULL;
    }
    return PyLong_FromVoidPtr(((Memory *)obj)->mem);
}

static PyObject *state_assign(PyObject *module, PyObject *args)
{
    PyObject *target, *source;
    Memory *to, *from;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &target, &source)) {
        return NULL;
    }
    to = (Memory *)target;
    from = (Memory *)source;
    if (!PyObject_TypeCheck(target, memory_type) || Py_TYPE(target) != Py_TYPE(source)
        || to->size != from->size) {
        PyErr_SetString(PyExc_TypeError, "assign() takes two instances of one layout class");
        return NULL;
    }
    memmove(to->mem, from->mem, to->size);
    Py_RETURN_NONE;
}

static PyObject *state_set_error_factory(PyObject *module, PyObject *factory)
{
    (void)module;
    Py_INCREF(factory);
    Py_XDECREF(error_factory);
    error_factory = factory;
    Py_RETURN_NONE;
}

static PyMethodDef state_methods[] = {
    { "view", state_view, METH_VARARGS,
      "view(cls, address, size, owner): an instance over memory that owner keeps alive." },
    { "address", state_address, METH_O, "address(memory): where an instance's memory lies." },
    { "assign", state_assign, METH_VARARGS,
      "assign(target, source): copy a layout class instance in one go." },
    { "set_error_factory", state_set_error_factory, METH_O,
      "set_error_factory(f): f(Field, index, value, why) makes a refused store's exception." },
    { 0 }
};

static struct PyModuleDef state_module = {
    PyModuleDef_HEAD_INIT, "_state", "State as the C side sees it; see state.c.", -1,
    state_methods, NULL, NULL, NULL, NULL
};

static int add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec)
{
    *type = (PyTypeObject *)PyType_FromSpec(spec);
    return *type ? PyModule_AddType(module, *type) : -1;
}

PyMODINIT_FUNC PyInit__state(void)
{
    PyObject *module = PyModule_Create(&state_module);

    if (!module || add_type(module, &memory_type, &memory_spec) < 0
        || add_type(module, &field_type, &field_spec) < 0
        || add_type(module, &array_type, &array_spec) < 0
        || add_type(module, &cell_type, &cell_spec) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
