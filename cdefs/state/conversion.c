/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversion: the conversion of one attribute's value, or of a value inside it. */
#include "state/conversion.h"
#include "state/memory.h"
#include "state/values.h"

PyTypeObject *qv_conversion_type;

static const struct {
    const char *name;
    const ConversionKind *kind;
} kinds[] = {
    { "number", &qv_convert_number },     { "field", &qv_convert_field },
    { "bytes", &qv_convert_bytes },       { "str", &qv_convert_str },
    { "sequence", &qv_convert_sequence }, { "set", &qv_convert_set },
    { "dict", &qv_convert_dict },         { "optional", &qv_convert_optional },
    { "tuple", &qv_convert_tuple },       { "function", &qv_convert_function },
    { "object", &qv_convert_object },     { "struct", &qv_convert_struct },
};

static int conversion_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Conversion *self = (Conversion *)obj;
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        Py_VISIT(self->parts[i].conversion);
    }
    Py_VISIT(self->number.field);
    Py_VISIT(self->cls);
    Py_VISIT(self->to);
    Py_VISIT(self->back);
    Py_VISIT(self->errors);
    Py_VISIT(self->table);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static void conversion_dealloc(PyObject *obj)
{
    Conversion *self = (Conversion *)obj;

    PyObject_GC_UnTrack(obj);
    while (self->count) {
        self->count--;
        Py_CLEAR(self->parts[self->count].name);
        Py_CLEAR(self->parts[self->count].conversion);
    }
    PyMem_Free(self->parts);
    Py_CLEAR(self->path);
    Py_CLEAR(self->number.field);
    Py_CLEAR(self->cls);
    Py_CLEAR(self->to);
    Py_CLEAR(self->back);
    Py_CLEAR(self->errors);
    Py_CLEAR(self->table);
    Py_CLEAR(self->initial);
    qv_free_object(obj);
}

/* Conversions refer to a class, which refers to them. */
static int conversion_clear(PyObject *obj)
{
    Py_CLEAR(((Conversion *)obj)->table);
    return 0;
}

static int set_kind(Conversion *self, const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!strcmp(name, kinds[i].name)) {
            self->kind = kinds[i].kind;
            return 0;
        }
    }
    PyErr_Format(PyExc_SystemError, "a Conversion of the kind %s", name);
    return -1;
}

static void reach(Conversion *self, Py_ssize_t end)
{
    if (end > self->end) {
        self->end = end;
    }
}

/* Add (name or None, conversion, offset); -1 with an exception. */
static int add_part(Conversion *self, PyObject *tuple)
{
    PyObject *name, *conversion;
    Part *part = &self->parts[self->count];

    if (!PyTuple_Check(tuple)
        || !PyArg_ParseTuple(tuple, "OO!n", &name, qv_conversion_type, &conversion,
                             &part->offset)) {
        return -1;
    }
    if (name != Py_None) {
        part->name = Py_NewRef(name);
        PyUnicode_InternInPlace(&part->name);
    }
    part->conversion = (Conversion *)Py_NewRef(conversion);
    self->calls_python = self->calls_python || part->conversion->calls_python;
    self->converts = self->converts || part->conversion->converts;
    self->count++;
    if (!self->stride) {
        reach(self, part->offset + part->conversion->end);
    } else if (part->offset + part->conversion->end > self->stride) {
        PyErr_SetString(PyExc_SystemError, "an element's conversion lies outside it");
        return -1;
    }
    return 0;
}

static int add_parts(Conversion *self, PyObject *parts)
{
    Py_ssize_t i, count = PyTuple_Size(parts);

    self->parts = PyMem_Calloc(count + 1, sizeof(*self->parts));
    if (!self->parts) {
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < count; i++) {
        if (add_part(self, PyTuple_GetItem(parts, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *given(PyObject *object)
{
    return object == Py_None ? NULL : Py_XNewRef(object);
}

static bool is_invalid(Conversion *self)
{
    const ConversionKind *kind = self->kind;
    bool has_room = kind == &qv_convert_bytes || kind == &qv_convert_str || self->stride;
    bool has_field = kind == &qv_convert_number || kind == &qv_convert_field
                     || kind == &qv_convert_optional || kind == &qv_convert_struct;
    bool is_collection =
        kind == &qv_convert_sequence || kind == &qv_convert_set || kind == &qv_convert_dict;

    return self->data < 0 || self->room < 0 || self->stride < 0
           || (has_room && self->stride && self->room > INT32_MAX / self->stride)
           || (has_field && !self->number.field) || is_collection != (self->stride > 0)
           || (is_collection && self->count != (kind == &qv_convert_dict ? 2 : 1))
           || (kind == &qv_convert_function && (!self->to || !self->back || self->count != 1))
           || (kind == &qv_convert_struct && (!self->to || !self->back))
           || (kind == &qv_convert_object && !self->cls)
           || (self->initial
               && (!self->number.field || !PyBytes_Check(self->initial)
                   || PyBytes_Size(self->initial) != self->number.field->size));
}

static PyObject *conversion_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "kind", "path", "field", "data",  "room",   "stride",  "parts",
                             "cls",  "to",   "back",  "table", "errors", "initial", NULL };
    PyObject *path = NULL, *field = NULL, *parts = NULL, *cls = NULL, *to = NULL, *back = NULL;
    PyObject *table = NULL, *errors = NULL, *initial = NULL;
    const char *kind;
    PyObject *made = PyType_GenericAlloc(type, 0);
    Conversion *self = (Conversion *)made;

    if (!made
        || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "s|U$OnnnO!OOOOOO", names, &kind, &path, &field, &self->data, &self->room,
            &self->stride, &PyTuple_Type, &parts, &cls, &to, &back, &table, &errors, &initial)
        || set_kind(self, kind) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    self->path = path ? Py_NewRef(path) : PyUnicode_FromString("");
    if (field && field != Py_None) {
        if (!PyObject_TypeCheck(field, qv_field_type)) {
            PyErr_SetString(PyExc_TypeError, "a Conversion's field is a Field");
            Py_DECREF(made);
            return NULL;
        }
        qv_number_set(&self->number, field);
        reach(self, self->number.field->offset + self->number.field->size);
    }
    self->cls = (PyTypeObject *)given(cls);
    self->to = given(to);
    self->back = given(back);
    self->table = given(table);
    self->errors = given(errors);
    self->initial = given(initial);
    /* An Enum's members are in its table. */
    self->converts = self->kind == &qv_convert_function || self->kind == &qv_convert_struct;
    self->calls_python = (self->kind == &qv_convert_function && !self->table)
                         || self->kind == &qv_convert_object || self->kind == &qv_convert_struct;
    if (parts && add_parts(self, parts) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    if (self->kind == &qv_convert_dict && self->count) {
        self->parts[0].conversion->is_key = true;
    }
    reach(self, self->data + self->room * (self->stride ? self->stride : 1));
    if (!self->path || is_invalid(self)) {
        PyErr_SetString(PyExc_SystemError, "a Conversion that describes no memory");
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* Return obj as a Memory that has all of the conversion; NULL with an exception. */
static Memory *memory_of(Conversion *self, PyObject *obj)
{
    if (!PyObject_TypeCheck(obj, qv_memory_type) || ((Memory *)obj)->size < self->end) {
        PyErr_SetString(PyExc_TypeError, "a conversion lies outside this object's memory");
        return NULL;
    }
    return (Memory *)obj;
}

/* Return obj as a Memory whose bytes stay where they are; NULL with an exception. */
static Memory *memory_to_fill(Conversion *self, PyObject *obj)
{
    Memory *memory = memory_of(self, obj);

    return memory && memory->borrowed && qv_memory_own(memory) < 0 ? NULL : memory;
}

static PyObject *conversion_pack(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    Conversion *self = (Conversion *)obj;
    Memory *memory;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "pack() takes a value and an instance");
        return NULL;
    }
    memory = memory_to_fill(self, args[1]);
    if (!memory) {
        return NULL;
    }
    /* A conversion lowers counts and leaves the elements behind them as they are. */
    qv_memory_root(args[1])->stale = true;
    if (self->kind->pack(self, memory, 0, args[0]) < 0) {
        qv_put_under(Py_NewRef(self->path));
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static PyObject *conversion_unpack(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    Conversion *self = (Conversion *)obj;
    Memory *memory;
    PyObject *value;
    long version_id;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "unpack() takes an instance and a version");
        return NULL;
    }
    memory = memory_of(self, args[0]);
    version_id = PyLong_AsLong(args[1]);
    if (!memory || PyErr_Occurred()) {
        return NULL;
    }
    value = self->kind->unpack(self, memory, 0, version_id);
    if (!value) {
        qv_put_under(Py_NewRef(self->path));
    }
    return value;
}

static PyMethodDef conversion_methods[] = {
    { "pack", (PyCFunction)(void (*)(void))conversion_pack, METH_FASTCALL,
      "pack(value, memory): store a value in an instance of the conversion's layout class." },
    { "unpack", (PyCFunction)(void (*)(void))conversion_unpack, METH_FASTCALL,
      "unpack(memory, version_id): return a new object with the value in the instance." },
    { 0 }
};

static PyMemberDef conversion_members[] = {
    { "end", T_PYSSIZET, offsetof(Conversion, end), READONLY, NULL }, { 0 }
};

static PyType_Slot conversion_slots[] = {
    { Py_tp_doc,
      "Conversion(kind, path='', *, field, data, room, stride, parts, cls, to, back, table,\n"
      "errors, initial): the conversion of a Python value to the memory of a layout class, and\n"
      "back." },
    { Py_tp_new, conversion_new },
    { Py_tp_dealloc, conversion_dealloc },
    { Py_tp_traverse, conversion_traverse },
    { Py_tp_clear, conversion_clear },
    { Py_tp_methods, conversion_methods },
    { Py_tp_members, conversion_members },
    { 0, NULL }
};

PyType_Spec qv_conversion_spec = { "qemu_vmstate.bindings._state.Conversion", sizeof(Conversion), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, conversion_slots };
