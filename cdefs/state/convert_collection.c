/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversions of lists, tuples, deques, sets and dicts: a count, and room for elements. */
#define _GNU_SOURCE /* qsort_r() */
#include "state/convert.h"
#include <stdlib.h>

static Py_ssize_t element(Conversion *self, Py_ssize_t at, Py_ssize_t i)
{
    return at + self->data + i * self->stride;
}

static void under_key(PyObject *key)
{
    PyObject *type, *exc, *traceback, *text;

    PyErr_Fetch(&type, &exc, &traceback);
    text = PyUnicode_FromFormat("[%.80R]", key);
    if (!text) {
        PyErr_Clear();
    }
    PyErr_Restore(type, exc, traceback);
    qv_put_under(text);
}

static int check_count(Conversion *self, PyObject *value, Py_ssize_t count)
{
    if (count > self->room || (!self->number.field && count != self->room)) {
        qv_refuse_number(self->number.field ? "elements" : "length", value, count, self->room);
        return -1;
    }
    return 0;
}

/* Return a tuple of the elements, which stays as it is while they are stored. */
static PyObject *elements_of(Conversion *self, PyObject *value)
{
    bool is_set = self->kind == &qv_convert_set;
    PyObject *tuple;

    if (is_set ? !PyAnySet_Check(value)
               : !PySequence_Check(value) || PyUnicode_Check(value) || PyBytes_Check(value)
                     || PyByteArray_Check(value)) {
        qv_refuse_value("kind", value, (PyObject *)self->cls, 0);
        return NULL;
    }
    tuple = PySequence_Tuple(value);
    if (!tuple) {
        qv_refuse_because("convert", value, (PyObject *)self->cls);
    } else if (check_count(self, value, PyTuple_Size(tuple)) < 0) {
        Py_CLEAR(tuple);
    }
    return tuple;
}

static int pack_elements(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *tuple)
{
    Py_ssize_t i, count = PyTuple_Size(tuple);

    for (i = 0; i < count; i++) {
        if (qv_pack_part(self->parts, memory, element(self, at, i), PyTuple_GetItem(tuple, i))
            < 0) {
            qv_under_index(i);
            return -1;
        }
    }
    qv_write_count(self, memory->mem + at, count);
    return 0;
}

static int sequence_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    PyObject *tuple = elements_of(self, value);
    int ret = tuple ? pack_elements(self, memory, at, tuple) : -1;

    Py_XDECREF(tuple);
    return ret;
}

/* Return a list of all elements as of a version. */
static PyObject *unpack_elements(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    Py_ssize_t i, count = qv_loaded_count(self, memory->mem + at, "loaded elements");
    PyObject *list = count < 0 ? NULL : PyList_New(count);

    for (i = 0; list && i < count; i++) {
        PyObject *item = qv_unpack_part(self->parts, memory, element(self, at, i), version_id);

        if (!item) {
            qv_under_index(i);
            Py_CLEAR(list);
        } else if (PyList_SetItem(list, i, item) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* Return an object of the conversion's class with what a list or dict has, which is stolen. */
static PyObject *of_class(Conversion *self, PyObject *made)
{
    PyObject *converted;

    if (!made || Py_TYPE(made) == self->cls) {
        return made;
    }
    converted = self->cls == &PyTuple_Type
                    ? PyList_AsTuple(made)
                    : PyObject_CallFunctionObjArgs((PyObject *)self->cls, made, NULL);
    Py_DECREF(made);
    return converted;
}

static PyObject *sequence_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    return of_class(self, unpack_elements(self, memory, at, version_id));
}

/* Elements of a fixed count have a value each; others are left out. */
static void collection_clear(Conversion *self, char *mem)
{
    Py_ssize_t i;

    qv_write_count(self, mem, 0);
    for (i = 0; !self->number.field && i < self->room; i++) {
        qv_clear_parts(self, mem + element(self, 0, i));
    }
}

static int collection_compare(Conversion *self, const char *a, const char *b)
{
    Py_ssize_t first = qv_read_count_to_room(self, a), second = qv_read_count_to_room(self, b), i;
    int order = 0;

    for (i = 0; i < first && i < second && !order; i++) {
        order = qv_compare_parts(self, a + element(self, 0, i), b + element(self, 0, i));
    }
    return order ? order : (first > second) - (first < second);
}

const ConversionKind qv_convert_sequence = { sequence_pack, sequence_unpack, collection_clear,
                                             collection_compare };

/* Sets are sorted by what is in memory, so that equal sets have equal bytes on the wire. */

static int compare_places(const void *a, const void *b, void *self)
{
    return qv_compare_part(((Conversion *)self)->parts, *(char *const *)a, *(char *const *)b);
}

/*
 * Return the elements in memory in their order, which they need not have there; NULL with an
 * exception.  Owner: the caller.
 */
static char **sorted_places(Conversion *self, Memory *memory, Py_ssize_t at, Py_ssize_t count)
{
    char **places = PyMem_Malloc((count + 1) * sizeof(*places));
    Py_ssize_t i;

    if (!places) {
        PyErr_NoMemory();
        return NULL;
    }
    for (i = 0; i < count; i++) {
        places[i] = memory->mem + element(self, at, i);
    }
    qsort_r(places, count, sizeof(*places), compare_places, self);
    return places;
}

/* Return the first of the sorted elements that equals its successor; -1 if there is none. */
static Py_ssize_t first_duplicate(Conversion *self, char **places, Py_ssize_t count)
{
    Py_ssize_t i;

    for (i = 0; i + 1 < count; i++) {
        if (compare_places(&places[i], &places[i + 1], self) == 0) {
            return i;
        }
    }
    return -1;
}

static bool are_sorted(Conversion *self, Memory *memory, Py_ssize_t at, Py_ssize_t count)
{
    Py_ssize_t i;

    for (i = 0; i + 1 < count; i++) {
        if (qv_compare_part(self->parts, memory->mem + element(self, at, i),
                            memory->mem + element(self, at, i + 1))
            >= 0) {
            return false;
        }
    }
    return true;
}

/* Sort the elements; -1 with an exception if two are the same in memory. */
static int sort_elements(Conversion *self, Memory *memory, Py_ssize_t at, Py_ssize_t count,
                         PyObject *value)
{
    char **places = sorted_places(self, memory, at, count);
    char *sorted; /* owner: this call */
    Py_ssize_t i, duplicate;

    if (!places) {
        return -1;
    }
    duplicate = first_duplicate(self, places, count);
    sorted = duplicate < 0 ? PyMem_Malloc(count * self->stride + 1) : NULL;
    if (duplicate >= 0) {
        qv_refuse_number("same", value, duplicate, 0);
    } else if (!sorted) {
        PyErr_NoMemory();
    } else {
        for (i = 0; i < count; i++) {
            memcpy(sorted + i * self->stride, places[i], self->stride);
        }
        memcpy(memory->mem + element(self, at, 0), sorted, count * self->stride);
    }
    PyMem_Free(places);
    PyMem_Free(sorted);
    return sorted ? 0 : -1;
}

static int set_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    PyObject *tuple = elements_of(self, value);
    Py_ssize_t count = tuple ? PyTuple_Size(tuple) : 0;
    int ret = tuple ? pack_elements(self, memory, at, tuple) : -1;

    Py_XDECREF(tuple);
    return ret < 0 || are_sorted(self, memory, at, count)
               ? ret
               : sort_elements(self, memory, at, count, value);
}

static PyObject *set_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    PyObject *list = unpack_elements(self, memory, at, version_id), *made = NULL;
    Py_ssize_t count = list ? PyList_Size(list) : 0;

    if (list && !are_sorted(self, memory, at, count)) {
        qv_refuse_value("order", list, NULL, 0);
    } else if (list) {
        made = self->cls == &PyFrozenSet_Type ? PyFrozenSet_New(list) : PySet_New(list);
        if (!made) {
            qv_refuse_because("hash", list, NULL);
        }
    }
    if (made && PySet_Size(made) != count) {
        qv_refuse_value("order", list, NULL, 0);
        Py_CLEAR(made);
    }
    Py_XDECREF(list);
    return made;
}

const ConversionKind qv_convert_set = { set_pack, set_unpack, collection_clear,
                                        collection_compare };

/* Dicts: parts[0] is the key, parts[1] the value. */

static int pack_item(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *key,
                     PyObject *value)
{
    int ret = qv_pack_part(&self->parts[0], memory, at, key);

    if (ret == 0) {
        ret = qv_pack_part(&self->parts[1], memory, at, value);
    }
    if (ret < 0) {
        under_key(key);
    }
    return ret;
}

/* Store the items of a dict that is no object of a subclass, which may have an order of its own. */
static int pack_dict(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *dict)
{
    Py_ssize_t pos = 0, i = 0, count = PyDict_Size(dict);
    PyObject *key, *value;
    int ret = 0;

    while (ret == 0 && i < count && PyDict_Next(dict, &pos, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        ret = pack_item(self, memory, element(self, at, i++), key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    if (ret == 0 && (i != count || PyDict_Size(dict) != count)) {
        PyErr_SetString(PyExc_RuntimeError, "a dict changed its size while it was saved");
        return -1;
    }
    return ret;
}

static int pack_items(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *items)
{
    Py_ssize_t i, count = PyList_Size(items);
    int ret = 0;

    for (i = 0; ret == 0 && i < count; i++) {
        PyObject *item = PyList_GetItem(items, i);

        if (!PyTuple_Check(item) || PyTuple_Size(item) != 2) {
            PyErr_SetString(PyExc_TypeError, "items() of a dict returns pairs");
            return -1;
        }
        ret = pack_item(self, memory, element(self, at, i), PyTuple_GetItem(item, 0),
                        PyTuple_GetItem(item, 1));
    }
    return ret;
}

/* A function may convert two keys to the same, which no load would accept. */
static int check_keys(Conversion *self, Memory *memory, Py_ssize_t at, Py_ssize_t count,
                      PyObject *value)
{
    char **places;
    Py_ssize_t duplicate;

    if (!self->parts[0].conversion->converts) {
        return 0;
    }
    places = sorted_places(self, memory, at, count);
    duplicate = places ? first_duplicate(self, places, count) : -1;
    if (duplicate >= 0) {
        qv_refuse_number("same", value, duplicate, 0);
    }
    PyMem_Free(places);
    return places && duplicate < 0 ? 0 : -1;
}

static int dict_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    PyObject *items = NULL;
    Py_ssize_t count;
    int ret;

    if (!PyDict_Check(value)) {
        qv_refuse_value("kind", value, (PyObject *)self->cls, 0);
        return -1;
    }
    /* What is called may change the dict. */
    if (!PyDict_CheckExact(value) || self->calls_python) {
        items = PyMapping_Items(value);
        if (!items) {
            return -1;
        }
    }
    count = items ? PyList_Size(items) : PyDict_Size(value);
    ret = check_count(self, value, count);
    if (ret == 0) {
        ret = items ? pack_items(self, memory, at, items) : pack_dict(self, memory, at, value);
    }
    Py_XDECREF(items);
    if (ret == 0) {
        qv_write_count(self, memory->mem + at, count);
        ret = check_keys(self, memory, at, count, value);
    }
    return ret;
}

static int unpack_item(Conversion *self, Memory *memory, Py_ssize_t at, int version_id,
                       PyObject *made)
{
    PyObject *key = qv_unpack_part(&self->parts[0], memory, at, version_id), *value;
    int ret = -1;

    if (!key) {
        return -1;
    }
    value = qv_unpack_part(&self->parts[1], memory, at, version_id);
    if (value) {
        ret = PyDict_SetItem(made, key, value);
        if (ret < 0) {
            qv_refuse_because("hash", key, NULL);
        }
    }
    if (ret < 0) {
        under_key(key);
    }
    Py_DECREF(key);
    Py_XDECREF(value);
    return ret;
}

static PyObject *dict_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    Py_ssize_t i, count = qv_loaded_count(self, memory->mem + at, "loaded elements");
    PyObject *made = count < 0 ? NULL : PyDict_New();

    for (i = 0; made && i < count; i++) {
        if (unpack_item(self, memory, element(self, at, i), version_id, made) < 0) {
            Py_CLEAR(made);
        }
    }
    if (made && PyDict_Size(made) != count) {
        qv_refuse_number("duplicate", made, count, 0);
        Py_CLEAR(made);
    }
    return of_class(self, made);
}

const ConversionKind qv_convert_dict = { dict_pack, dict_unpack, collection_clear,
                                         collection_compare };
