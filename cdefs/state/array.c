/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ArrayView: an array inside a layout class, of a fixed or counted number of elements. */
#include "state/array.h"
#include "state/object_util.h"
#include "state/values.h"

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
    qv_free_object(obj);
}

static Py_ssize_t array_length(PyObject *obj)
{
    Array *self = (Array *)obj;

    return qv_count(self->field, self->mem);
}

static char *array_at(Array *self, Py_ssize_t i)
{
    return self->mem + i * ((Field *)self->field->inner)->size;
}

static PyObject *array_item(PyObject *obj, Py_ssize_t i)
{
    Array *self = (Array *)obj;
    Field *inner;

    if (i < 0 || i >= array_length(obj)) {
        PyErr_Format(PyExc_IndexError, "%U: index %zd of %zd elements", self->field->name, i,
                     array_length(obj));
        return NULL;
    }
    inner = (Field *)self->field->inner;
    if (inner->kind == 'a') {
        Field *row = qv_name_row(inner, i);
        PyObject *view = row ? qv_load_value(row, array_at(self, i), self->owner) : NULL;

        Py_XDECREF((PyObject *)row);
        return view;
    }
    return qv_load_value(inner, array_at(self, i), self->owner);
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
    Py_ssize_t count = array_length((PyObject *)self);

    *i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (*i == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*i < 0) {
        *i += count;
    }
    if (*i < 0 || *i >= count) {
        PyErr_Format(PyExc_IndexError, "%U: index %S of %zd elements", self->field->name, key,
                     count);
        return -1;
    }
    return 0;
}

static PyObject *array_subscript(PyObject *obj, PyObject *key)
{
    Array *self = (Array *)obj;
    Py_ssize_t start, stop, step, i, n;

    if (PySlice_Check(key)) {
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return NULL;
        }
        n = PySlice_AdjustIndices(array_length(obj), &start, &stop, step);
        return array_list(self, start, step, n);
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
        n = PySlice_AdjustIndices(array_length(obj), &start, &stop, step);
        if (step != 1) {
            PyErr_Format(PyExc_ValueError, "%U: only contiguous slices can be assigned",
                         self->field->name);
            return -1;
        }
        return qv_store_elements(self->field, array_at(self, start), value, start, n, self->owner);
    }
    if (array_index(self, key, &i) < 0) {
        return -1;
    }
    return qv_store_value((Field *)self->field->inner, array_at(self, i), value, i, self->owner);
}

static PyObject *array_richcompare(PyObject *a, PyObject *b, int op)
{
    PyObject *left, *right, *result;

    if ((op != Py_EQ && op != Py_NE) || !PySequence_Check(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    left = PySequence_List(a);
    right = left ? PySequence_List(b) : NULL;
    result = right ? PyObject_RichCompare(left, right, op) : NULL;
    Py_XDECREF(left);
    Py_XDECREF(right);
    return result;
}

static PyObject *array_repr(PyObject *obj)
{
    Array *self = (Array *)obj;
    PyObject *list = array_list(self, 0, 1, array_length(obj));
    PyObject *text = list ? PyObject_Repr(list) : NULL;

    Py_XDECREF(list);
    return text;
}

/* Numbers are exported with up to MAX_DIMENSIONS dimensions; structs and deeper arrays as bytes. */
static int array_getbuffer(PyObject *obj, Py_buffer *view, int flags)
{
    static const char letters[] = QV_NUMBERS;
    static char formats[sizeof(letters)][2];
    Array *self = (Array *)obj;
    Field *element = self->field, *inner = (Field *)element->inner;
    const char *letter;
    int dimensions = 0;

    while (element->inner && dimensions < MAX_DIMENSIONS) {
        self->shape[dimensions] = element->count;
        element = (Field *)element->inner;
        self->strides[dimensions++] = element->size;
    }
    self->shape[0] = array_length(obj);
    if (PyBuffer_FillInfo(view, obj, self->mem, self->shape[0] * inner->size, inner->checked, flags)
        < 0) {
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

static PyType_Slot array_slots[] = { { Py_tp_doc,
                                       "An array inside a layout class: a view, not a copy." },
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
                                     { 0, NULL } };

PyType_Spec qv_array_spec = { "qemu_vmstate.bindings._state.ArrayView", sizeof(Array), 0,
                              Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
                                  | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                              array_slots };
