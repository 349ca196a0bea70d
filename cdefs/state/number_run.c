/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NumberRun: several numbers of a layout class, stored and loaded by one call each.
 *
 * The generated conversion of a single state reads and sets the attributes itself: the limited API
 * has no function that is as fast as the interpreter's specialised LOAD_ATTR and STORE_ATTR.  For
 * a list of states a loop in C is as fast, and no signal handler can end it half-way.  It is an
 * item assignment, because after a call, unlike that, the interpreter runs signal handlers.
 *
 * Attributes are read and set as Python does it, not in __dict__: CPython 3.11 gives an object a
 * dict only when somebody asks for it, and from then on each access to its attributes takes longer.
 */
#include "state/number_run.h"
#include "state/memory.h"
#include "state/object_util.h"
#include "state/values.h"
#include <limits.h>

typedef struct {
    PyObject *name; /* strong: the attribute, interned */
    Field *field;   /* strong */
    /* The ints that store_int() stores; none if low is greater. */
    long long low, high;
} Number;

typedef struct {
    PyObject_HEAD Number *numbers; /* owner: this object */
    Py_ssize_t count;
    Py_ssize_t end; /* behind the last byte of a number */
} NumberRun;

static int number_run_traverse(PyObject *obj, visitproc visit, void *arg)
{
    NumberRun *self = (NumberRun *)obj;
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        Py_VISIT(self->numbers[i].field);
    }
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static void number_run_dealloc(PyObject *obj)
{
    NumberRun *self = (NumberRun *)obj;

    PyObject_GC_UnTrack(obj);
    while (self->count) {
        self->count--;
        Py_CLEAR(self->numbers[self->count].name);
        Py_CLEAR(self->numbers[self->count].field);
    }
    PyMem_Free(self->numbers);
    qv_free_object(obj);
}

static void set_limits(Number *number)
{
    const Field *field = number->field;

    if (strchr("?fd", field->kind)) {
        number->low = 1;
        number->high = 0;
        return;
    }
    number->low = field->low;
    number->high = strchr("bhiq", field->kind) ? (long long)field->high
                   : field->high > LLONG_MAX   ? LLONG_MAX
                                               : (long long)field->high;
}

/* Add a field and its attribute; -1 with an exception. */
static int add(NumberRun *self, PyObject *name, PyObject *field)
{
    Field *number = (Field *)field;

    if (!PyUnicode_Check(name) || !PyObject_TypeCheck(field, qv_field_type)
        || !strchr(QV_NUMBERS, number->kind)) {
        PyErr_SetString(PyExc_TypeError, "NumberRun() takes a dict of Fields of numbers");
        return -1;
    }
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    self->numbers[self->count] = (Number){ .name = name, .field = (Field *)Py_NewRef(field) };
    set_limits(&self->numbers[self->count++]);
    if (number->offset + number->size > self->end) {
        self->end = number->offset + number->size;
    }
    return 0;
}

static PyObject *number_run_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *fields, *name, *field;
    Py_ssize_t pos = 0;
    NumberRun *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", &PyDict_Type, &fields)) {
        return NULL;
    }
    self = (NumberRun *)PyType_GenericAlloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->numbers = PyMem_Calloc(PyDict_Size(fields) + 1, sizeof(*self->numbers));
    if (!self->numbers) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    while (PyDict_Next(fields, &pos, &name, &field)) {
        if (add(self, name, field) < 0) {
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

/*
 * Store what nearly all values are, an int that is within the limits, in half the time that
 * qv_store_value() takes.  False: that decides.
 */
static bool store_int(const Number *number, char *p, PyObject *value)
{
    long long whole;
    int overflow;

    if (!PyLong_CheckExact(value)) {
        return false;
    }
    whole = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow || whole < number->low || whole > number->high) {
        return false;
    }
    switch (number->field->size) {
    case 1:
        *(uint8_t *)p = whole;
        break;
    case 2:
        *(uint16_t *)p = whole;
        break;
    case 4:
        *(uint32_t *)p = whole;
        break;
    default:
        *(uint64_t *)p = whole;
        break;
    }
    return true;
}

/* memory->mem may move while a value's __index__() runs. */
static int store(const Number *number, Memory *memory, Py_ssize_t at, PyObject *value)
{
    if (store_int(number, memory->mem + at + number->field->offset, value)) {
        return 0;
    }
    return qv_store_value(number->field, memory->mem + at + number->field->offset, value, -1,
                          (PyObject *)memory);
}

static PyObject *number_run_pack(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    NumberRun *self = (NumberRun *)obj;
    Memory *memory;
    Py_ssize_t i;

    if (count != self->count + 1) {
        PyErr_Format(PyExc_TypeError, "pack() takes an instance and %zd values", self->count);
        return NULL;
    }
    memory = memory_of(self, args[0], 0);
    for (i = 0; memory && i < self->count; i++) {
        if (store(&self->numbers[i], memory, 0, args[i + 1]) < 0) {
            return NULL;
        }
    }
    return memory ? Py_NewRef(Py_None) : NULL;
}

/* Return the memory of an array of count structs, each with the run; NULL with an exception. */
static Memory *array_of(NumberRun *self, PyObject *obj, Py_ssize_t at, Py_ssize_t size,
                        Py_ssize_t count)
{
    if (size < 1 || size < self->end || count < 0 || count > PY_SSIZE_T_MAX / size
        || at > PY_SSIZE_T_MAX - count * size) {
        PyErr_SetString(PyExc_ValueError, "a struct is smaller than its numbers");
        return NULL;
    }
    return memory_of(self, obj, at) && memory_of(self, obj, at + (count ? count - 1 : 0) * size)
               ? (Memory *)obj
               : NULL;
}

/* Store the attributes of one state; -1 with an exception. */
static int pack_state(NumberRun *self, PyObject *state, Memory *memory, Py_ssize_t at)
{
    getattrofunc get = (getattrofunc)PyType_GetSlot(Py_TYPE(state), Py_tp_getattro);
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        PyObject *value = get(state, self->numbers[i].name);
        int ret = value ? store(&self->numbers[i], memory, at, value) : -1;

        Py_XDECREF(value);
        if (ret < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *number_run_pack_states(PyObject *obj, PyObject *args)
{
    NumberRun *self = (NumberRun *)obj;
    PyObject *states, *target;
    Py_ssize_t at, size, count, i;
    Memory *memory;

    if (!PyArg_ParseTuple(args, "O!Onn", &PyTuple_Type, &states, &target, &at, &size)) {
        return NULL;
    }
    count = PyTuple_Size(states);
    memory = array_of(self, target, at, size, count);
    for (i = 0; memory && i < count; i++) {
        if (pack_state(self, PyTuple_GetItem(states, i), memory, at + i * size) < 0) {
            return NULL;
        }
    }
    return memory ? Py_NewRef(Py_None) : NULL;
}

/* Add the values of one struct to a tuple, from index on; -1 with an exception. */
static int load_values(NumberRun *self, Memory *memory, Py_ssize_t at, PyObject *values,
                       Py_ssize_t index)
{
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        Field *field = self->numbers[i].field;
        PyObject *value = qv_load_value(field, memory->mem + at + field->offset, NULL);

        if (!value || PyTuple_SetItem(values, index + i, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *number_run_unpack(PyObject *obj, PyObject *source)
{
    NumberRun *self = (NumberRun *)obj;
    Memory *memory = memory_of(self, source, 0);
    PyObject *values = memory ? PyTuple_New(self->count) : NULL;

    if (values && load_values(self, memory, 0, values, 0) < 0) {
        Py_CLEAR(values);
    }
    return values;
}

static PyObject *number_run_unpack_states(PyObject *obj, PyObject *args)
{
    NumberRun *self = (NumberRun *)obj;
    PyObject *source, *values = NULL;
    Py_ssize_t at, size, count, i;
    Memory *memory;

    if (!PyArg_ParseTuple(args, "Onnn", &source, &at, &size, &count)) {
        return NULL;
    }
    memory = array_of(self, source, at, size, count);
    if (memory) {
        values = PyTuple_New(count * self->count);
    }
    for (i = 0; values && i < count; i++) {
        if (load_values(self, memory, at + i * size, values, i * self->count) < 0) {
            Py_CLEAR(values);
        }
    }
    return values;
}

/* run[states] = values: set the attributes of the states. */
static int number_run_set_states(PyObject *obj, PyObject *states, PyObject *values)
{
    NumberRun *self = (NumberRun *)obj;
    Py_ssize_t i, j;

    if (!PyTuple_Check(states) || !values || !PyTuple_Check(values)
        || PyTuple_Size(values) != PyTuple_Size(states) * self->count) {
        PyErr_SetString(PyExc_TypeError, "a tuple of states needs a tuple of all their values");
        return -1;
    }
    for (i = 0; i < PyTuple_Size(states); i++) {
        PyObject *state = PyTuple_GetItem(states, i);
        setattrofunc set = (setattrofunc)PyType_GetSlot(Py_TYPE(state), Py_tp_setattro);

        for (j = 0; j < self->count; j++) {
            if (set(state, self->numbers[j].name, PyTuple_GetItem(values, i * self->count + j))
                < 0) {
                return -1;
            }
        }
    }
    return 0;
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
    { "unpack", number_run_unpack, METH_O, "unpack(memory): return the values, as a tuple." },
    { "pack_states", number_run_pack_states, METH_VARARGS,
      "pack_states(states, memory, offset, size): store the attributes of a tuple of states into an\n"
      "array of structs of that size at the offset." },
    { "unpack_states", number_run_unpack_states, METH_VARARGS,
      "unpack_states(memory, offset, size, count): return all values of such an array, as one tuple." },
    { 0 }
};

static PyType_Slot number_run_slots[] = {
    { Py_tp_doc,
      "NumberRun({attribute: Field}): numbers of a layout class that one call stores or loads.\n"
      "``run[states] = values`` sets the attributes of a tuple of states to the values of\n"
      "unpack_states()." },
    { Py_tp_new, number_run_new },
    { Py_tp_dealloc, number_run_dealloc },
    { Py_tp_traverse, number_run_traverse },
    { Py_tp_methods, number_run_methods },
    { Py_mp_ass_subscript, number_run_set_states },
    { 0, NULL }
};

PyType_Spec qv_number_run_spec = { "qemu_vmstate.bindings._state.NumberRun", sizeof(NumberRun), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, number_run_slots };
