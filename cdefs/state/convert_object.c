/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversions of values that can be None, tuples, objects, and by functions in Python. */
#include "state/convert.h"
#include "state/memory.h"
#include "state/values.h"

/* A value that can be None: the number is a bool, the part the value. */

static char *presence(Conversion *self, char *mem)
{
    return mem + self->number.field->offset;
}

static int optional_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    *presence(self, memory->mem + at) = value != Py_None;
    if (value != Py_None) {
        return qv_pack_part(self->parts, memory, at, value);
    }
    qv_clear_parts(self, memory->mem + at);
    return 0;
}

static PyObject *optional_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    return *presence(self, memory->mem + at) ? qv_unpack_part(self->parts, memory, at, version_id)
                                             : Py_NewRef(Py_None);
}

static void optional_clear(Conversion *self, char *mem)
{
    *presence(self, mem) = 0;
    qv_clear_parts(self, mem);
}

static int optional_compare(Conversion *self, const char *a, const char *b)
{
    int first = *presence(self, (char *)a), second = *presence(self, (char *)b);

    return first && second ? qv_compare_parts(self, a, b) : first - second;
}

const ConversionKind qv_convert_optional = { optional_pack, optional_unpack, optional_clear,
                                             optional_compare };

/* A tuple with a part for each element. */

static int tuple_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    Py_ssize_t i;

    if (!PyTuple_Check(value)) {
        qv_refuse_value("kind", value, (PyObject *)self->cls, 0);
        return -1;
    }
    if (PyTuple_Size(value) != self->count) {
        qv_refuse_number("length", value, PyTuple_Size(value), self->count);
        return -1;
    }
    for (i = 0; i < self->count; i++) {
        if (qv_pack_part(&self->parts[i], memory, at, PyTuple_GetItem(value, i)) < 0) {
            qv_under_index(i);
            return -1;
        }
    }
    return 0;
}

static PyObject *tuple_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    PyObject *tuple = PyTuple_New(self->count);
    Py_ssize_t i;

    for (i = 0; tuple && i < self->count; i++) {
        PyObject *item = qv_unpack_part(&self->parts[i], memory, at, version_id);

        if (!item) {
            qv_under_index(i);
            Py_CLEAR(tuple);
        } else if (PyTuple_SetItem(tuple, i, item) < 0) {
            Py_CLEAR(tuple);
        }
    }
    return tuple;
}

const ConversionKind qv_convert_tuple = { tuple_pack, tuple_unpack, qv_clear_parts,
                                          qv_compare_parts };

/*
 * Two functions in Python around a part.  With a table, the numbers of an Enum's members: a
 * member's is its attribute _value_, a number's member is in the table.
 */

static PyObject *member_value(void)
{
    static PyObject *name; /* strong, never dropped */

    if (!name) {
        name = PyUnicode_InternFromString("_value_");
    }
    return name;
}

static PyObject *release_name(void)
{
    static PyObject *name; /* strong, never dropped */

    if (!name) {
        name = PyUnicode_InternFromString("release");
    }
    return name;
}

/* Raise the exception for a function that has failed, or for what it has returned. */
static void refuse(Conversion *self, PyObject *value, const char *reason)
{
    if (!self->errors) {
        qv_clear_path();
        qv_refuse_because("convert", value, (PyObject *)self->cls);
    } else if (PyErr_ExceptionMatches(PyExc_Exception)) {
        qv_refuse_instead(reason, value, self->errors);
    }
}

static int function_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    bool is_member = self->table && Py_TYPE(value) == self->cls;
    PyObject *converted;
    int ret = -1;

    if (self->cls && !self->table && PyObject_IsInstance(value, (PyObject *)self->cls) != 1) {
        PyErr_Clear(); /* of a class whose metaclass cannot tell */
        qv_refuse_value("kind", value, (PyObject *)self->cls, 0);
        return -1;
    }
    converted = is_member ? PyObject_GetAttr(value, member_value())
                          : PyObject_CallFunctionObjArgs(self->to, value, NULL);
    if (converted) {
        ret = qv_pack_part(self->parts, memory, at, converted);
        Py_DECREF(converted);
    }
    if (ret < 0 && (!converted || self->errors)) {
        refuse(self, value, "encode");
    }
    return ret;
}

/* Release a view of memory, which is valid during one call; -1 with an exception, or that before. */
static int release(PyObject *view)
{
    PyObject *type, *exc, *traceback, *done;

    PyErr_Fetch(&type, &exc, &traceback);
    done = PyObject_CallMethodObjArgs(view, release_name(), NULL);
    Py_XDECREF(done);
    if (type) {
        PyErr_Restore(type, exc, traceback);
    }
    return done && !type ? 0 : -1;
}

static PyObject *function_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    PyObject *value = qv_unpack_part(self->parts, memory, at, version_id), *made;

    if (!value) {
        return NULL;
    }
    made = self->table ? PyDict_GetItemWithError(self->table, value) : NULL;
    if (made) {
        Py_INCREF(made);
    } else if (!PyErr_Occurred()) {
        made = PyObject_CallFunctionObjArgs(self->back, value, NULL);
        if (!made) {
            refuse(self, value, "decode");
        }
    }
    if (PyMemoryView_Check(value) && release(value) < 0) {
        Py_CLEAR(made);
    }
    Py_DECREF(value);
    return made;
}

const ConversionKind qv_convert_function = { function_pack, function_unpack, qv_clear_parts,
                                             qv_compare_parts };

/*
 * An object of a derived class: a part for each attribute.  A new one is made as copy and pickle
 * do it, without __init__(); the table has a function for the value of each attribute that does not
 * migrate, and back is __post_init__(), if there is one.
 */

static void under_attribute(const Part *part)
{
    qv_put_under(PyUnicode_FromFormat(".%U", part->name));
}

static int object_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    getattrofunc get = (getattrofunc)PyType_GetSlot(Py_TYPE(value), Py_tp_getattro);
    Py_ssize_t i;

    if (Py_TYPE(value) != self->cls) {
        qv_refuse_value("class", value, (PyObject *)self->cls, 0);
        return -1;
    }
    for (i = 0; i < self->count; i++) {
        const Part *part = &self->parts[i];
        PyObject *attribute = get(value, part->name);
        int ret = attribute ? qv_pack_part(part, memory, at, attribute) : -1;

        if (!attribute) {
            qv_refuse_because("attribute", value, part->name);
        }
        Py_XDECREF(attribute);
        if (ret < 0) {
            under_attribute(part);
            return -1;
        }
    }
    return 0;
}

static int set_others(Conversion *self, PyObject *made)
{
    PyObject *name, *function;
    Py_ssize_t pos = 0;

    while (self->table && PyDict_Next(self->table, &pos, &name, &function)) {
        PyObject *value = PyObject_CallFunctionObjArgs(function, NULL);
        int ret = value ? PyObject_GenericSetAttr(made, name, value) : -1;

        Py_XDECREF(value);
        if (ret < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *object_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    newfunc new = (newfunc)PyType_GetSlot(self->cls, Py_tp_new);
    PyObject *none = PyTuple_New(0), *made = none ? new(self->cls, none, NULL) : NULL;
    PyObject *done = NULL;
    Py_ssize_t i;

    Py_XDECREF(none);
    if (made && Py_TYPE(made) != self->cls) {
        qv_refuse_value("class", made, (PyObject *)self->cls, 0);
        Py_CLEAR(made);
    }
    for (i = 0; made && i < self->count; i++) {
        const Part *part = &self->parts[i];
        PyObject *value = qv_unpack_part(part, memory, at, version_id);
        int ret = value ? PyObject_GenericSetAttr(made, part->name, value) : -1;

        if (value && ret < 0) {
            qv_refuse_because("setter", value, (PyObject *)self->cls);
        }
        Py_XDECREF(value);
        if (ret < 0) {
            under_attribute(part);
            Py_CLEAR(made);
        }
    }
    if (made && set_others(self, made) < 0) {
        Py_CLEAR(made);
    }
    if (made && self->back) {
        done = PyObject_CallFunctionObjArgs(self->back, made, NULL);
        if (!done) {
            qv_refuse_because("post_init", Py_None, (PyObject *)self->cls);
            Py_CLEAR(made);
        }
        Py_XDECREF(done);
    }
    return made;
}

const ConversionKind qv_convert_object = { object_pack, object_unpack, qv_clear_parts,
                                           qv_compare_parts };

/*
 * A struct that functions in Python fill and read: to(value, struct), back(struct, version_id).
 * back gets a copy, which it may keep.
 */

static int struct_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    Field *field = self->number.field;
    PyObject *view, *done;

    view = qv_load_value(field, memory->mem + at + field->offset, (PyObject *)memory);
    done = view ? PyObject_CallFunctionObjArgs(self->to, value, view, NULL) : NULL;
    if (view && !done) {
        qv_refuse_because("convert", value, (PyObject *)self->cls);
    }
    Py_XDECREF(view);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *struct_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    Field *field = self->number.field;
    PyObject *copy = PyObject_CallFunctionObjArgs(field->cls, NULL), *made;

    if (!copy) {
        return NULL;
    }
    if (!PyObject_TypeCheck(copy, (PyTypeObject *)field->cls)
        || ((Memory *)copy)->size < field->size) {
        qv_refuse_value("class", copy, field->cls, 0);
        Py_DECREF(copy);
        return NULL;
    }
    memcpy(((Memory *)copy)->mem, memory->mem + at + field->offset, field->size);
    made = PyObject_CallFunction(self->back, "Oi", copy, version_id);
    if (!made) {
        qv_refuse_because("convert", copy, (PyObject *)self->cls);
    }
    Py_DECREF(copy);
    return made;
}

static int struct_compare(Conversion *self, const char *a, const char *b)
{
    const Field *field = self->number.field;

    return memcmp(a + field->offset, b + field->offset, field->size);
}

const ConversionKind qv_convert_struct = { struct_pack, struct_unpack, qv_clear_field,
                                           struct_compare };
