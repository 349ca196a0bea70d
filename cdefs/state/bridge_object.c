/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BridgeObject: an object in the bridge, which QEMU's code saves, loads and registers.
 *
 * A call of it waits for the BQL without the GIL.  It raises nothing for what QEMU or a hook
 * refuses, but returns it as (errno, message, exceptions of the hooks): Python has the sentences.
 */
#include "state/bridge_object.h"
#include "state/memory.h"
#include "state/cell.h"
#include "shared/object_functions.h"

typedef struct {
    PyObject_HEAD QvObject *object; /* owner: this object */
    const void *subject;            /* owner: none, only compared; see the member's doc string */
} BridgeObject;

/* A save or load that runs in this thread.  They nest: a hook may save another object. */
typedef struct Call {
    struct Call *outer;   /* owner: the outer call */
    BridgeObject *object; /* owner: the caller of this call */
    PyObject *raised;     /* owner: this call; a list of the hooks' exceptions, or NULL */
} Call;

static __thread Call *innermost;
static const QvObjectFunctions *functions;
/* Whether the functions cannot be called any more: this is a fork of a QEMU. */
static bool forbidden;

PyObject *qv_set_object_functions(PyObject *module, PyObject *address)
{
    (void)module;
    functions = PyLong_AsVoidPtr(address);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyObject *qv_forbid_object_calls(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    forbidden = true;
    Py_RETURN_NONE;
}

static bool begin(Call *call, BridgeObject *self)
{
    Call *outer;

    if (forbidden) {
        return false;
    }
    for (outer = innermost; outer; outer = outer->outer) {
        if (outer->object->subject == self->subject) {
            return false;
        }
    }
    *call = (Call){ .outer = innermost, .object = self };
    innermost = call;
    return true;
}

static void end(Call *call)
{
    innermost = call->outer;
    Py_CLEAR(call->raised);
}

/* Free errmsg.  raised: a list, or NULL. */
static PyObject *failure(int ret, char *errmsg, PyObject *raised)
{
    const char *text = errmsg ? errmsg : "no reason given";
    PyObject *message = PyUnicode_DecodeUTF8(text, strlen(text), "backslashreplace");
    PyObject *list = raised ? Py_NewRef(raised) : PyList_New(0);
    PyObject *made = message && list ? Py_BuildValue("iOO", ret, message, list) : NULL;

    if (errmsg) {
        functions->free_text(errmsg);
    }
    Py_XDECREF(message);
    Py_XDECREF(list);
    return made;
}

/* The call was refused: errno 0. */
static PyObject *refused(void)
{
    return failure(0, NULL, NULL);
}

static PyObject *save(BridgeObject *self, bool describe)
{
    char *errmsg = NULL;
    PyObject *result;
    QvSaved saved;
    Call call;
    int ret;

    if (!begin(&call, self)) {
        return refused();
    }
    Py_BEGIN_ALLOW_THREADS
        ret = functions->save(self->object, describe, &saved, &errmsg);
    Py_END_ALLOW_THREADS
    if (ret) {
        result = failure(ret, errmsg, call.raised);
    } else {
        result = describe
                     ? PyUnicode_DecodeUTF8(saved.vmdesc, strlen(saved.vmdesc), "backslashreplace")
                     : qv_new_bytes(saved.data, saved.size);
        functions->end_save(&saved);
    }
    end(&call);
    return result;
}

static PyObject *bridge_object_save(PyObject *obj, PyObject *unused)
{
    (void)unused;
    return save((BridgeObject *)obj, false);
}

static PyObject *bridge_object_describe(PyObject *obj, PyObject *unused)
{
    (void)unused;
    return save((BridgeObject *)obj, true);
}

/* Get any contiguous buffer; -1 with a TypeError. */
static int get_bytes(PyObject *obj, Py_buffer *data)
{
    if (PyObject_GetBuffer(obj, data, PyBUF_FULL_RO) < 0) {
        return -1;
    }
    if (!PyBuffer_IsContiguous(data, 'C')) {
        PyBuffer_Release(data);
        PyErr_SetString(PyExc_TypeError, "the bytes to load must be contiguous in memory");
        return -1;
    }
    return 0;
}

static PyObject *bridge_object_load(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    BridgeObject *self = (BridgeObject *)obj;
    char *errmsg = NULL;
    PyObject *result;
    int ret, version_id;
    Py_buffer data;
    Call call;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "load() takes the bytes and their version");
        return NULL;
    }
    version_id = PyLong_AsLong(args[1]);
    if (version_id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (get_bytes(args[0], &data) < 0) {
        return NULL;
    }
    if (!begin(&call, self)) {
        PyBuffer_Release(&data);
        return refused();
    }
    Py_BEGIN_ALLOW_THREADS
        ret = functions->load(self->object, data.buf, data.len, version_id, &errmsg);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    result = ret ? failure(ret, errmsg, call.raised) : Py_NewRef(Py_None);
    end(&call);
    return result;
}

static PyObject *bridge_object_register(PyObject *obj, PyObject *instance_id)
{
    BridgeObject *self = (BridgeObject *)obj;
    unsigned long id = PyLong_AsUnsignedLong(instance_id);
    char *errmsg = NULL;
    int ret;

    if (PyErr_Occurred()) {
        return NULL;
    }
    if (forbidden) {
        return refused();
    }
    Py_BEGIN_ALLOW_THREADS
        ret = functions->add(self->object, id, &errmsg);
    Py_END_ALLOW_THREADS
    return ret ? failure(ret, errmsg, NULL) : Py_NewRef(Py_None);
}

static PyObject *bridge_object_unregister(PyObject *obj, PyObject *unused)
{
    BridgeObject *self = (BridgeObject *)obj;
    char *errmsg = NULL;
    int ret;

    (void)unused;
    if (forbidden) {
        return refused();
    }
    Py_BEGIN_ALLOW_THREADS
        ret = functions->remove(self->object, &errmsg);
    Py_END_ALLOW_THREADS
    return ret ? failure(ret, errmsg, NULL) : Py_NewRef(Py_None);
}

static PyObject *bridge_object_raised(PyObject *obj, PyObject *unused)
{
    Call *call = innermost;

    (void)unused;
    while (call && call->object != (BridgeObject *)obj) {
        call = call->outer;
    }
    if (!call) {
        Py_RETURN_NONE;
    }
    call->raised = call->raised ? call->raised : PyList_New(0);
    return Py_XNewRef(call->raised);
}

static PyObject *bridge_object_stands_for(PyObject *obj, PyObject *subject)
{
    ((BridgeObject *)obj)->subject = subject;
    Py_RETURN_NONE;
}

/* Return the memory of a Cell's state, or NULL if it has none. */
static Memory *memory_of(PyObject *cell)
{
    PyObject *value = PyObject_TypeCheck(cell, qv_cell_type) ? ((Cell *)cell)->value : NULL;

    return value && PyObject_TypeCheck(value, qv_memory_type) ? (Memory *)value : NULL;
}

/* cells: a tuple of Cells that guard Memory. */
static PyObject *make(PyTypeObject *type, void *object_class, void *handle, int hooks,
                      PyObject *cells)
{
    BridgeObject *self = (BridgeObject *)PyType_GenericAlloc(type, 0);
    Py_ssize_t i;

    if (!self) {
        return NULL;
    }
    self->subject = self;
    self->object = functions->create(object_class, handle, hooks);
    if (!self->object) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (i = 0; i < PyTuple_Size(cells); i++) {
        PyObject *cell = PyTuple_GetItem(cells, i);

        functions->set_part(self->object, i, &((Cell *)cell)->cell, memory_of(cell)->mem);
    }
    return (PyObject *)self;
}

static PyObject *bridge_object_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *object_class, *handle, *cells;
    Py_ssize_t i;
    int hooks;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!O!iO!", &PyLong_Type, &object_class, &PyLong_Type, &handle,
                          &hooks, &PyTuple_Type, &cells)) {
        return NULL;
    }
    for (i = 0; i < PyTuple_Size(cells); i++) {
        if (!memory_of(PyTuple_GetItem(cells, i))) {
            PyErr_SetString(PyExc_TypeError, "BridgeObject() takes cells that guard Memory");
            return NULL;
        }
    }
    return make(type, PyLong_AsVoidPtr(object_class), PyLong_AsVoidPtr(handle), hooks, cells);
}

static bool is_of_types(PyObject *cells, PyObject *types)
{
    Py_ssize_t i, count = PyTuple_Size(cells);

    if (PyTuple_Size(types) != 2 * count) {
        return false;
    }
    for (i = 0; i < count; i++) {
        PyObject *cell = PyTuple_GetItem(cells, i);
        Memory *memory = memory_of(cell);

        if (!memory || (PyObject *)Py_TYPE(cell) != PyTuple_GetItem(types, 2 * i)
            || (PyObject *)Py_TYPE((PyObject *)memory) != PyTuple_GetItem(types, 2 * i + 1)) {
            return false;
        }
    }
    return true;
}

static PyObject *bridge_object_of_types(PyObject *type, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_Check(args[0]) || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "of_types() takes types, cells and an object class");
        return NULL;
    }
    if (!is_of_types(args[1], args[0])) {
        Py_RETURN_NONE;
    }
    return make((PyTypeObject *)type, PyLong_AsVoidPtr(args[2]), NULL, 0, args[1]);
}

/* In a fork too, and at Python's end. */
static void bridge_object_dealloc(PyObject *obj)
{
    BridgeObject *self = (BridgeObject *)obj;

    if (self->object) {
        functions->destroy(self->object);
    }
    qv_free_object(obj);
}

static PyObject *bridge_object_get_address(PyObject *obj, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr(((BridgeObject *)obj)->object);
}

static PyObject *bridge_object_get_staging(PyObject *obj, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr(functions->staging(((BridgeObject *)obj)->object));
}

static PyMethodDef bridge_object_methods[] = {
    { "of_types", (PyCFunction)(void (*)(void))bridge_object_of_types, METH_FASTCALL | METH_CLASS,
      "of_types(types, cells, object_class): return a BridgeObject without hooks; or None if the\n"
      "cells and their states are of other types than (cell's, state's, ...)." },
    { "save", bridge_object_save, METH_NOARGS, "save(): return the bytes, or the failure." },
    { "describe", bridge_object_describe, METH_NOARGS,
      "describe(): save, and return the JSON, or the failure." },
    { "load", (PyCFunction)(void (*)(void))bridge_object_load, METH_FASTCALL,
      "load(data, version_id): load the bytes of that version, or of the newest if it is negative,\n"
      "and return None, or the failure." },
    { "register", bridge_object_register, METH_O,
      "register(instance_id): add it to the savevm list, and return None, or the failure." },
    { "unregister", bridge_object_unregister, METH_NOARGS,
      "unregister(): remove it from the savevm list, and return None, or the failure." },
    { "raised", bridge_object_raised, METH_NOARGS,
      "raised(): return the list of the exceptions of the save or load that runs in this thread;\n"
      "None if a migration does." },
    { "stands_for", bridge_object_stands_for, METH_O,
      "stands_for(state): refuse a call inside one of any object that stands for the same state.\n"
      "Without it an object stands for itself." },
    { 0 }
};

static PyGetSetDef bridge_object_getset[] = {
    { "address", bridge_object_get_address, NULL, "The address of the QvObject.", NULL },
    { "staging", bridge_object_get_staging, NULL, "The address of the staging struct.", NULL },
    { 0 }
};

static PyType_Slot bridge_object_slots[] = {
    { Py_tp_doc, "BridgeObject(object_class, handle, hooks, cells): an object "
                 "in the bridge." },
    { Py_tp_new, bridge_object_new },
    { Py_tp_dealloc, bridge_object_dealloc },
    { Py_tp_methods, bridge_object_methods },
    { Py_tp_getset, bridge_object_getset },
    { 0, NULL }
};

PyType_Spec qv_bridge_object_spec = { "qemu_vmstate.bindings._state.BridgeObject",
                                      sizeof(BridgeObject), 0, Py_TPFLAGS_DEFAULT,
                                      bridge_object_slots };
