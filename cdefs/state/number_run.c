/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NumberRun: several numbers of a layout class, stored and loaded by one call each.
 *
 * The generated conversions of derived dataclasses read and set the attributes themselves: the
 * limited API has no function that is as fast as the interpreter's specialised LOAD_ATTR and
 * STORE_ATTR, and whatever a class does with its attributes stays Python's business.
 */
#include "state/number_run.h"
#include "state/memory.h"
#include "state/object_util.h"
#include "state/values.h"

typedef struct {
    PyObject_HEAD PyObject *owner; /* strong: the tuple of the fields */
    Field **fields;                /* owner: this object; the fields themselves: owner */
    Py_ssize_t count;
    Py_ssize_t end; /* behind the last byte of a number */
} NumberRun;

static int number_run_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(((NumberRun *)obj)->owner);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static void number_run_dealloc(PyObject *obj)
{
    NumberRun *self = (NumberRun *)obj;

    PyObject_GC_UnTrack(obj);
    Py_CLEAR(self->owner);
    PyMem_Free(self->fields);
    qv_free_object(obj);
}

/* Add a field, or return false if it is no number. */
static bool add_field(NumberRun *self, PyObject *field)
{
    Field *number = (Field *)field;

    if (!PyObject_TypeCheck(field, qv_field_type) || !strchr(QV_NUMBERS, number->kind)) {
        return false;
    }
    self->fields[self->count++] = number;
    if (number->offset + number->size > self->end) {
        self->end = number->offset + number->size;
    }
    return true;
}

static PyObject *number_run_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *fields;
    Py_ssize_t i, count;
    NumberRun *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &fields)) {
        return NULL;
    }
    self = (NumberRun *)PyType_GenericAlloc(type, 0);
    if (!self) {
        return NULL;
    }
    count = PyTuple_Size(fields);
    self->owner = Py_NewRef(fields);
    self->fields = PyMem_Calloc(count + 1, sizeof(*self->fields));
    if (!self->fields) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (i = 0; i < count; i++) {
        if (!add_field(self, PyTuple_GetItem(fields, i))) {
            PyErr_SetString(PyExc_TypeError, "NumberRun() takes a tuple of Fields of numbers");
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

/* Return obj as a Memory that has the run at an offset; NULL with an exception. */
static Memory *memory_of(NumberRun *self, PyObject *obj, Py_ssize_t at)
{
    Memory *memory = (Memory *)obj;

    if (!PyObject_TypeCheck(obj, qv_memory_type)) {
        PyErr_SetString(PyExc_TypeError, "a run of numbers is in a layout class instance");
        return NULL;
    }
    if (at < 0 || at > memory->size - self->end) {
        PyErr_SetString(PyExc_TypeError, "a run of numbers lies outside this object's memory");
        return NULL;
    }
    return memory;
}

/* Store values from an offset on; memory->mem may move while a value's __index__() runs. */
static PyObject *store(NumberRun *self, Memory *memory, Py_ssize_t at, PyObject *const *values,
                       Py_ssize_t count)
{
    Py_ssize_t i;

    if (count != self->count) {
        PyErr_Format(PyExc_TypeError, "%zd values for a run of %zd numbers", count, self->count);
        return NULL;
    }
    for (i = 0; i < count; i++) {
        Field *field = self->fields[i];

        if (qv_store_value(field, memory->mem + at + field->offset, values[i], -1) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *number_run_pack(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    NumberRun *self = (NumberRun *)obj;
    Memory *memory;

    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "pack() takes a layout class instance and the values");
        return NULL;
    }
    memory = memory_of(self, args[0], 0);
    return memory ? store(self, memory, 0, args + 1, count - 1) : NULL;
}

static PyObject *number_run_pack_at(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    NumberRun *self = (NumberRun *)obj;
    Memory *memory;
    Py_ssize_t at;

    if (count < 2) {
        PyErr_SetString(PyExc_TypeError, "pack_at() takes a layout class instance, an offset and "
                                         "the values");
        return NULL;
    }
    at = PyLong_AsSsize_t(args[1]);
    if (at == -1 && PyErr_Occurred()) {
        return NULL;
    }
    memory = memory_of(self, args[0], at);
    return memory ? store(self, memory, at, args + 2, count - 2) : NULL;
}

static PyObject *number_run_unpack(PyObject *obj, PyObject *source)
{
    NumberRun *self = (NumberRun *)obj;
    Memory *memory = memory_of(self, source, 0);
    PyObject *values = memory ? PyTuple_New(self->count) : NULL;
    Py_ssize_t i;

    for (i = 0; values && i < self->count; i++) {
        Field *field = self->fields[i];
        PyObject *value = qv_load_value(field, memory->mem + field->offset, source);

        if (!value || PyTuple_SetItem(values, i, value) < 0) {
            Py_CLEAR(values);
        }
    }
    return values;
}

PyObject *qv_states_of(PyObject *module, PyObject *args)
{
    PyObject *states, *cls, *made;
    Py_ssize_t i, count;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOn", &states, &cls, &count)) {
        return NULL;
    }
    if (!PyList_CheckExact(states) || PyList_Size(states) != count) {
        Py_RETURN_NONE;
    }
    made = PyList_AsTuple(states);
    for (i = 0; made && i < count; i++) {
        if ((PyObject *)Py_TYPE(PyTuple_GetItem(made, i)) != cls) {
            Py_DECREF(made);
            Py_RETURN_NONE;
        }
    }
    return made;
}

static PyMethodDef number_run_methods[] = {
    { "pack", (PyCFunction)(void (*)(void))number_run_pack, METH_FASTCALL,
      "pack(memory, *values): store each value as an assignment to its field would." },
    { "pack_at", (PyCFunction)(void (*)(void))number_run_pack_at, METH_FASTCALL,
      "pack_at(memory, offset, *values): pack() into a struct inside memory." },
    { "unpack", number_run_unpack, METH_O, "unpack(memory): return the values, as a tuple." },
    { 0 }
};

static PyType_Slot number_run_slots[] = {
    { Py_tp_doc, "NumberRun(fields): numbers of a layout class that one call stores or loads." },
    { Py_tp_new, number_run_new },
    { Py_tp_dealloc, number_run_dealloc },
    { Py_tp_traverse, number_run_traverse },
    { Py_tp_methods, number_run_methods },
    { 0, NULL }
};

PyType_Spec qv_number_run_spec = { "qemu_vmstate.bindings._state.NumberRun", sizeof(NumberRun), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, number_run_slots };
