/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Field: the data descriptor of one field of a layout class. */
#include "state/field.h"
#include "state/memory.h"
#include "state/object_util.h"
#include "state/values.h"

/* Set the range: that of the field's kind, with the declared limits; -1 with an exception. */
static int set_range(Field *field, PyObject *low, PyObject *high)
{
    static const char letters[] = "bhiqBHIQ";
    static const long long lows[] = { INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN };
    static const unsigned long long highs[] = { INT8_MAX,  INT16_MAX,  INT32_MAX,  INT64_MAX,
                                                UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX };
    const char *letter = strchr(letters, field->kind);

    field->low = letter && letter < letters + 4 ? lows[letter - letters] : 0;
    field->high = letter ? highs[letter - letters] : 1;
    if (low && low != Py_None) {
        field->low = PyLong_AsLongLong(low);
    }
    if (high && high != Py_None) {
        field->high = PyLong_AsUnsignedLongLong(high);
    }
    return PyErr_Occurred() ? -1 : 0;
}

static bool is_invalid(Py_ssize_t offset, Py_ssize_t size, Py_ssize_t count, int kind,
                       PyObject *cls, PyObject *inner)
{
    bool array = kind == 'a' || kind == 'v';

    return offset < 0 || size <= 0 || count < 0
           || !memchr(QV_NUMBERS "sav", kind, sizeof(QV_NUMBERS "sav") - 1)
           || (kind == 's') != (cls != NULL) || array != (inner != NULL)
           || (cls && !PyType_Check(cls))
           || (cls && !PyType_IsSubtype((PyTypeObject *)cls, qv_memory_type))
           || (inner
               && (!PyObject_TypeCheck(inner, qv_field_type)
                   || count != size / ((Field *)inner)->size));
}

static PyObject *field_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "name",      "kind",     "offset",   "size", "count", "cls", "inner",
                             "num_delta", "num_kind", "multiply", "low",  "high",  NULL };
    PyObject *name, *cls = NULL, *inner = NULL, *low = NULL, *high = NULL;
    Py_ssize_t offset, size, count = 0, num_delta = 0, multiply = 1;
    int kind, num_kind = 0, checked;
    Field *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UCnn|nOOnCnOO", names, &name, &kind, &offset,
                                     &size, &count, &cls, &inner, &num_delta, &num_kind, &multiply,
                                     &low, &high)) {
        return NULL;
    }
    if (cls == Py_None) {
        cls = NULL;
    }
    if (inner == Py_None) {
        inner = NULL;
    }
    if (is_invalid(offset, size, count, kind, cls, inner) || (kind == 'v') != (num_kind != 0)
        || (num_kind && !memchr("BHIiQ", num_kind, 5)) || multiply <= 0) {
        PyErr_SetString(PyExc_SystemError, "a Field that describes no memory");
        return NULL;
    }
    checked = cls ? qv_is_checked(cls) : inner ? ((Field *)inner)->checked : low || high;
    if (checked < 0) {
        return NULL;
    }
    self = (Field *)PyType_GenericAlloc(type, 0);
    if (!self) {
        return NULL;
    }
    self->name = Py_NewRef(name);
    self->offset = offset;
    self->size = size;
    self->count = count;
    self->kind = kind;
    self->cls = Py_XNewRef(cls);
    self->inner = Py_XNewRef(inner);
    self->num_delta = num_delta;
    self->num_kind = num_kind;
    self->multiply = multiply;
    self->checked = checked || kind == 'v';
    if (set_range(self, low, high) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int field_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Field *self = (Field *)obj;

    Py_VISIT(self->cls);
    Py_VISIT(self->inner);
    Py_VISIT(self->num);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static int field_clear(PyObject *obj)
{
    Field *self = (Field *)obj;

    Py_CLEAR(self->cls);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->num);
    return 0;
}

static void field_dealloc(PyObject *obj)
{
    PyObject_GC_UnTrack(obj);
    field_clear(obj);
    Py_CLEAR(((Field *)obj)->name);
    qv_free_object(obj);
}

/* Return obj as the Memory of the field; NULL with an exception if the field is not inside it. */
static Memory *memory_of(Field *field, PyObject *obj)
{
    Memory *memory = (Memory *)obj;

    if (!PyObject_TypeCheck(obj, qv_memory_type)) {
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
    if (memory && memory->borrowed && memchr("sav", self->kind, 3) && qv_memory_own(memory) < 0) {
        return NULL;
    }
    return memory ? qv_load_value(self, memory->mem + self->offset, obj) : NULL;
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
    return qv_store_value(self, memory->mem + self->offset, value, -1, obj);
}

static PyObject *field_counted_by(PyObject *obj, PyObject *number)
{
    Field *self = (Field *)obj;

    if (!PyObject_TypeCheck(number, qv_field_type) || self->num || self->kind != 'v'
        || ((Field *)number)->kind != self->num_kind) {
        PyErr_SetString(PyExc_TypeError, "counted_by() takes the Field that counts this array");
        return NULL;
    }
    self->num = Py_NewRef(number);
    ((Field *)number)->counts++;
    Py_RETURN_NONE;
}

static PyMethodDef field_methods[] = {
    { "counted_by", field_counted_by, METH_O,
      "counted_by($self, number, /)\n--\n\nSet the Field of the number that counts this array." },
    { 0 }
};

static PyMemberDef field_members[] = {
    { "name", T_OBJECT_EX, offsetof(Field, name), READONLY, NULL },
    { "offset", T_PYSSIZET, offsetof(Field, offset), READONLY, NULL },
    { "size", T_PYSSIZET, offsetof(Field, size), READONLY, NULL },
    { "count", T_PYSSIZET, offsetof(Field, count), READONLY, NULL },
    { "kind", T_CHAR, offsetof(Field, kind), READONLY, NULL },
    { "cls", T_OBJECT, offsetof(Field, cls), READONLY, NULL },
    { "inner", T_OBJECT, offsetof(Field, inner), READONLY, NULL },
    { "multiply", T_PYSSIZET, offsetof(Field, multiply), READONLY, NULL },
    { "low", T_LONGLONG, offsetof(Field, low), READONLY, NULL },
    { "high", T_ULONGLONG, offsetof(Field, high), READONLY, NULL },
    { "checked", T_BOOL, offsetof(Field, checked), READONLY, NULL },
    { 0 }
};

static PyType_Slot field_slots[] = { { Py_tp_doc,
                                       "One field of a layout class; a data descriptor." },
                                     { Py_tp_new, field_new },
                                     { Py_tp_dealloc, field_dealloc },
                                     { Py_tp_traverse, field_traverse },
                                     { Py_tp_clear, field_clear },
                                     { Py_tp_descr_get, field_get },
                                     { Py_tp_descr_set, field_set },
                                     { Py_tp_members, field_members },
                                     { Py_tp_methods, field_methods },
                                     { 0, NULL } };

PyType_Spec qv_field_spec = { "qemu_vmstate.bindings._state.Field", sizeof(Field), 0,
                              Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, field_slots };
