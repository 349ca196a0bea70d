/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Helpers for types and methods of the _state extension. */
#include "state/object_util.h"
#include <sys/mman.h>

void qv_free_object(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    release(obj);
    Py_DECREF(type);
}

PyObject *qv_call(PyObject *obj, const char *name, PyObject *const *args, Py_ssize_t count,
                  PyObject *names)
{
    PyObject *method = PyObject_GetAttrString(obj, name), *result = NULL;
    PyObject *tuple = PyTuple_New(count), *keywords = names ? PyDict_New() : NULL;
    Py_ssize_t i, given = names ? PyTuple_Size(names) : 0;
    bool complete = method && tuple && (keywords || !names);

    for (i = 0; complete && i < count; i++) {
        complete = PyTuple_SetItem(tuple, i, Py_NewRef(args[i])) == 0;
    }
    for (i = 0; complete && i < given; i++) {
        complete = PyDict_SetItem(keywords, PyTuple_GetItem(names, i), args[count + i]) == 0;
    }
    if (complete) {
        result = PyObject_Call(method, tuple, keywords);
    }
    Py_XDECREF(method);
    Py_XDECREF(tuple);
    Py_XDECREF(keywords);
    return result;
}

/* From this size on malloc() maps new memory each time, which the system clears when it is used. */
#define ALWAYS_MAPPED (32 * 1024 * 1024)
#define HUGE_PAGE (2 * 1024 * 1024)

PyObject *qv_new_bytes(const void *memory, size_t size)
{
    PyObject *made = PyBytes_FromStringAndSize(NULL, size);
    char *bytes = made ? PyBytes_AsString(made) : NULL;

    if (bytes && size >= ALWAYS_MAPPED) {
        uintptr_t start = ((uintptr_t)bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        uintptr_t end = ((uintptr_t)bytes + size) / HUGE_PAGE * HUGE_PAGE;

        madvise((void *)start, end - start, MADV_HUGEPAGE);
    }
    if (bytes) {
        memcpy(bytes, memory, size);
    }
    return made;
}
