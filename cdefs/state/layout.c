/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Field, the data descriptor, and Memory, the base of layout classes. */
#include "state/state.h"

/* What a number of that kind can be, unless less is declared. */
static void default_range(Field *field)
{
    static const char letters[] = "bhiqBHIQ";
    static const long long lows[] = { INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN };
    static const unsigned long long highs[] = {
        INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX, UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX
    };
    const char *letter = strchr(letters, field->kind);

    field->low = letter && letter < letters + 4 ? lows[letter - letters] : 0;
    field->high = letter ? highs[letter - letters] : 1;
}

/* Whether a class's raw bytes are only to be read; -1 with an exception. */
static int is_checked(PyObject *cls)
{
    static PyObject *name;
    PyObject *flag;
    int checked;

    if (!name) {
        name = PyUnicode_InternFromString("__checked__");
    }
    flag = name ? PyObject_GetAttr(cls, name) : NULL;
    checked = flag ? PyObject_IsTrue(flag) : -1;
    Py_XDECREF(flag);
    return checked;
}

static bool describes_no_memory(Py_ssize_t offset, Py_ssize_t size, Py_ssize_t count, int kind,
                                PyObject *cls, PyObject *inner)
{
    bool array = kind == 'a' || kind == 'v';

    return offset < 0 || size <= 0 || count < 0 || !memchr("?bBhHiIqQdsav", kind, 13)
        || (kind == 's') != (cls != NULL) || array != (inner != NULL)
        || (cls && !PyType_Check(cls))
        || (cls && !PyType_IsSubtype((PyTypeObject *)cls, qv_memory_type))
        || (inner && (!PyObject_TypeCheck(inner, qv_field_type)
                      || count != size / ((Field *)inner)->size));
}

static PyObject *field_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "name", "kind", "offset", "size", "count", "cls", "inner",
                             "num_delta", "num_kind", "multiply", "low", "high", NULL };
    PyObject *name, *cls = NULL, *inner = NULL, *low = NULL, *high = NULL;
    Py_ssize_t offset, size, count = 0, num_delta = 0, multiply = 1;
    int kind, num_kind = 0, checked;
    Field *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UCnn|nOOnCnOO", names, &name, &kind,
                                     &offset, &size, &count, &cls, &inner, &num_delta,
                                     &num_kind, &multiply, &low, &high)) {
        return NULL;
    }
    if (cls == Py_None) {
        cls = NULL;
    }
    if (inner == Py_None) {
        inner = NULL;
    }
    if (describes_no_memory(offset, size, count, kind, cls, inner)
        || (kind == 'v') != (num_kind != 0) || (num_kind && !memchr("BHIi", num_kind, 4))
        || multiply <= 0) {
        PyErr_SetString(PyExc_SystemError, "a Field that describes no memory");
        return NULL;
    }
    checked = cls ? is_checked(cls) : inner ? ((Field *)inner)->checked : low || high;
    if (checked < 0) {
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
    self->num_delta = num_delta;
    self->num_kind = num_kind;
    self->multiply = multiply;
    self->checked = checked || kind == 'v';
    default_range(self);
    if (low && low != Py_None) {
        self->low = PyLong_AsLongLong(low);
    }
    if (high && high != Py_None) {
        self->high = PyLong_AsUnsignedLongLong(high);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(self);
    }
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

void qv_free_object(PyObject *obj)
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
    qv_free_object(obj);
}

/* The memory under obj, or NULL with an exception when it is not this layout's. */
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

/* Let a lent instance have memory of its own; -1 with an exception. */
static int own_memory(Memory *memory)
{
    char *copy = PyMem_Malloc(memory->size);

    if (!copy) {
        PyErr_NoMemory();
        return -1;
    }
    memory->mem = memcpy(copy, memory->mem, memory->size);
    memory->lent = false;
    Py_CLEAR(memory->owner);
    return 0;
}

PyObject *qv_memory_lend(Memory *memory)
{
    PyObject *obj = PyType_GenericAlloc(Py_TYPE((PyObject *)memory), 0);
    Memory *lent = (Memory *)obj;

    if (lent) {
        lent->mem = memory->mem;
        lent->size = memory->size;
        lent->owner = Py_NewRef((PyObject *)memory);
        lent->lent = true;
    }
    return obj;
}

int qv_memory_end_loan(PyObject *obj)
{
    Memory *lent = (Memory *)obj;
    int ret = Py_REFCNT(obj) > 1 && lent->lent ? own_memory(lent) : 0;

    Py_DECREF(obj);
    return ret;
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
    if (memory && memory->lent && memchr("sav", self->kind, 3) && own_memory(memory) < 0) {
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
    return qv_store_value(self, memory->mem + self->offset, value, -1);
}

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

PyType_Spec qv_field_spec = {
    "qemu_vmstate.bindings._state.Field", sizeof(Field), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, field_slots
};

int qv_get_image(PyObject *cls, Py_buffer *image)
{
    PyObject *held = PyObject_GetAttrString(cls, "__image__");
    int ret = held ? PyObject_GetBuffer(held, image, PyBUF_SIMPLE) : -1;

    Py_XDECREF(held);
    return ret;
}

/* Fresh memory from calloc() is zero and takes no pages: leave them alone. */
#define LARGE_IMAGE (1 << 20)

static char *memory_at_rest(const char *image, Py_ssize_t size)
{
    static const char zeros[4096];
    char *mem;
    Py_ssize_t at, n;

    if (size < LARGE_IMAGE) {
        mem = PyMem_Malloc(size ? size : 1);
        return mem ? memcpy(mem, image, size) : NULL;
    }
    mem = PyMem_Calloc(1, size);
    for (at = 0; mem && at < size; at += n) {
        n = size - at < (Py_ssize_t)sizeof(zeros) ? size - at : (Py_ssize_t)sizeof(zeros);
        if (memcmp(image + at, zeros, n)) {
            memcpy(mem + at, image + at, n);
        }
    }
    return mem;
}

/* A class's size and what an instance holds at rest are both in its image. */
static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_buffer image;
    Memory *self;

    (void)args;
    (void)kwargs;
    if (qv_get_image((PyObject *)type, &image) < 0) {
        return NULL;
    }
    self = (Memory *)PyType_GenericAlloc(type, 0);
    if (self) {
        self->mem = memory_at_rest(image.buf, image.len);
        self->size = image.len;
        if (!self->mem) {
            Py_CLEAR(self);
            PyErr_NoMemory();
        }
    }
    PyBuffer_Release(&image);
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
    qv_free_object(obj);
}

static int memory_getbuffer(PyObject *obj, Py_buffer *view, int flags)
{
    Memory *self = (Memory *)obj;
    int checked = is_checked((PyObject *)Py_TYPE(obj));

    if (self->lent && own_memory(self) < 0) {
        return -1;
    }
    return checked < 0 ? -1
         : PyBuffer_FillInfo(view, obj, self->mem, self->size, checked, flags);
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

PyObject *qv_assign(PyObject *target, PyObject *source)
{
    Memory *to = (Memory *)target, *from = (Memory *)source;

    if (!PyObject_TypeCheck(target, qv_memory_type) || Py_TYPE(target) != Py_TYPE(source)
        || to->size != from->size) {
        PyErr_SetString(PyExc_TypeError, "two instances of one layout class are needed");
        return NULL;
    }
    memmove(to->mem, from->mem, to->size);
    Py_RETURN_NONE;
}

static PyObject *memory_snapshot(PyObject *obj, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    return count == 1 && !names ? qv_assign(args[0], obj)
                                : qv_call(obj, "_snapshot", args, count, names);
}

static PyObject *memory_restore(PyObject *obj, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    return count == 2 && !names ? qv_assign(obj, args[0])
                                : qv_call(obj, "_restore", args, count, names);
}

PyObject *qv_new_memory_snapshot(void)
{
    static PyMethodDef def = {
        "snapshot_migration_state", (PyCFunction)(void (*)(void))memory_snapshot,
        METH_FASTCALL | METH_KEYWORDS,
        "snapshot_migration_state($self, target)\n--\n\n"
        "Copy this state's memory into ``target``, an instance of the same class."
    };

    return PyDescr_NewMethod(qv_memory_type, &def);
}

PyObject *qv_new_memory_restore(void)
{
    static PyMethodDef def = {
        "restore_migrated_state_mut", (PyCFunction)(void (*)(void))memory_restore,
        METH_FASTCALL | METH_KEYWORDS,
        "restore_migrated_state_mut($self, source, version_id)\n--\n\n"
        "Copy ``source``'s memory, an instance of the same class, into this state."
    };

    return PyDescr_NewMethod(qv_memory_type, &def);
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

PyType_Spec qv_memory_spec = {
    "qemu_vmstate.bindings._state.Memory", sizeof(Memory), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, memory_slots
};
