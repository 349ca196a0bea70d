/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory: the base of layout classes, whose instances have the layout of a C struct. */
#include "state/memory.h"
#include "state/object_util.h"

PyTypeObject *qv_memory_type;

int qv_is_checked(PyObject *cls)
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

int qv_get_image(PyObject *cls, Py_buffer *image)
{
    PyObject *image_bytes = PyObject_GetAttrString(cls, "__image__");
    int ret = image_bytes ? PyObject_GetBuffer(image_bytes, image, PyBUF_SIMPLE) : -1;

    Py_XDECREF(image_bytes);
    return ret;
}

Memory *qv_memory_root(PyObject *memory)
{
    Memory *root = (Memory *)memory;

    while (root->owner && PyObject_TypeCheck(root->owner, qv_memory_type)) {
        root = (Memory *)root->owner;
    }
    return root;
}

int qv_memory_own(Memory *memory)
{
    char *copy = PyMem_Malloc(memory->size);

    if (!copy) {
        PyErr_NoMemory();
        return -1;
    }
    memory->mem = memcpy(copy, memory->mem, memory->size);
    memory->stale = qv_memory_root((PyObject *)memory)->stale;
    memory->borrowed = false;
    Py_CLEAR(memory->owner);
    return 0;
}

PyObject *qv_memory_borrow(Memory *memory)
{
    PyObject *obj = PyType_GenericAlloc(Py_TYPE((PyObject *)memory), 0);
    Memory *borrowed = (Memory *)obj;

    if (borrowed) {
        borrowed->mem = memory->mem;
        borrowed->size = memory->size;
        borrowed->owner = Py_NewRef((PyObject *)memory);
        borrowed->borrowed = true;
    }
    return obj;
}

int qv_memory_end_borrow(PyObject *obj)
{
    Memory *borrowed = (Memory *)obj;
    int ret = Py_REFCNT(obj) > 1 && borrowed->borrowed ? qv_memory_own(borrowed) : 0;

    Py_DECREF(obj);
    return ret;
}

/* From this size on, pages that are zero are not written: calloc() gives them without memory. */
#define LARGE_IMAGE (1 << 20)

static char *new_memory(const char *image, Py_ssize_t size)
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
        self->mem = new_memory(image.buf, image.len);
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
    int checked = qv_is_checked((PyObject *)Py_TYPE(obj));

    if (self->borrowed && qv_memory_own(self) < 0) {
        return -1;
    }
    return checked < 0 ? -1 : PyBuffer_FillInfo(view, obj, self->mem, self->size, checked, flags);
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
    qv_memory_root(target)->stale |= qv_memory_root(source)->stale;
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
    { Py_tp_doc, "Memory with the layout of a C struct; the base of layout classes." },
    { Py_tp_new, memory_new },
    { Py_tp_init, memory_init },
    { Py_tp_dealloc, memory_dealloc },
    { Py_tp_traverse, memory_traverse },
    { Py_tp_richcompare, memory_richcompare },
    { Py_tp_hash, PyObject_HashNotImplemented },
    { Py_bf_getbuffer, memory_getbuffer },
    { 0, NULL }
};

PyType_Spec qv_memory_spec = { "qemu_vmstate.bindings._state.Memory", sizeof(Memory), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
                               memory_slots };
