/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The module qemu_vmstate.bindings._state; see types.h. */
#include "state/array.h"
#include "state/bql.h"
#include "state/bridge_object.h"
#include "state/cell.h"
#include "state/conversion.h"
#include "state/fast_path.h"
#include "state/field.h"
#include "state/guard.h"
#include "state/memory.h"
#include "state/number_run.h"
#include "state/values.h"

static PyTypeObject *fast_path_type, *number_run_type, *bridge_object_type;

static PyObject *state_view(PyObject *module, PyObject *args)
{
    PyObject *cls, *address, *owner, *view;
    Py_ssize_t size;
    void *mem;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOnO", &cls, &address, &size, &owner)) {
        return NULL;
    }
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, qv_memory_type)) {
        PyErr_SetString(PyExc_TypeError, "view() takes a layout class");
        return NULL;
    }
    mem = PyLong_AsVoidPtr(address);
    if (!mem) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "view() of address 0");
        }
        return NULL;
    }
    view = qv_make_view(cls, mem, owner);
    if (view) {
        ((Memory *)view)->size = size;
    }
    return view;
}

static PyObject *state_assign(PyObject *module, PyObject *args)
{
    PyObject *target, *source;

    (void)module;
    return PyArg_ParseTuple(args, "OO", &target, &source) ? qv_assign(target, source) : NULL;
}

/* Bypasses every check: the caller has to check the content afterwards. */
static PyObject *state_fill(PyObject *module, PyObject *args)
{
    PyObject *target;
    Py_buffer data;
    int ret = -1;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oy*", &target, &data)) {
        return NULL;
    }
    if (PyObject_TypeCheck(target, qv_memory_type) && ((Memory *)target)->size == data.len) {
        memcpy(((Memory *)target)->mem, data.buf, data.len);
        qv_memory_root(target)->stale = true;
        ret = 0;
    } else {
        PyErr_SetString(PyExc_ValueError, "fill() takes a layout class instance and as many bytes");
    }
    PyBuffer_Release(&data);
    return ret < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *state_python(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromVoidPtr((void *)&qv_python);
}

static PyMethodDef state_methods[] = {
    { "view", state_view, METH_VARARGS,
      "view(cls, address, size, owner): return an instance over memory that owner keeps alive." },
    { "assign", state_assign, METH_VARARGS,
      "assign(target, source): copy source's memory into target, an instance of the same class." },
    { "fill", state_fill, METH_VARARGS,
      "fill(memory, data): copy raw bytes into an instance, without checks." },
    { "python", state_python, METH_NOARGS,
      "python(): return the address of the QvPython, for the bridge." },
    { "lock_cells", qv_lock_cells, METH_O,
      "lock_cells(cells): lock all of a tuple of distinct Cells, and return -1; if this thread has\n"
      "one already, lock none and return its index.  Wait for ever, without the GIL." },
    { "unlock_cells", qv_unlock_cells, METH_O,
      "unlock_cells(cells): unlock what lock_cells() locked." },
    { "hand_over", qv_hand_over, METH_O,
      "hand_over(object): return its address, with a reference that the bridge owns." },
    { "take_over", qv_take_over, METH_O,
      "take_over(address): return the object of hand_over(), with its reference." },
    { "set_bql", qv_state_set_bql, METH_O,
      "set_bql(address): set the QvBql that the bql_*() functions use." },
    { "bql_lock", qv_state_bql_lock, METH_NOARGS,
      "bql_lock(): take the BQL; wait without the GIL." },
    { "bql_unlock", qv_state_bql_unlock, METH_NOARGS, "bql_unlock(): release the BQL." },
    { "bql_locked", qv_state_bql_locked, METH_NOARGS,
      "bql_locked(): return whether this thread has the BQL." },
    { "set_object_functions", qv_set_object_functions, METH_O,
      "set_object_functions(address): set the QvObjectFunctions that BridgeObjects use." },
    { "forbid_object_calls", qv_forbid_object_calls, METH_NOARGS,
      "forbid_object_calls(): let BridgeObjects refuse each call from now on." },
    { "set_guard", qv_set_guard, METH_O,
      "set_guard(cls): set the class of the guards that mutex_lock() returns, derived from Guard." },
    { "track_locks", qv_track_locks, METH_O,
      "track_locks(on): let mutex_lock() and the release of a Guard go through Python." },
    { "states_of", qv_states_of, METH_VARARGS,
      "states_of(states, cls, count): return the elements of a list of count objects of cls itself,\n"
      "as a tuple; None if it is another sequence." },
    { "set_conversion_errors", qv_set_conversion_errors, METH_VARARGS,
      "set_conversion_errors(InvalidError, f): f(reason, value, detail, limit) returns the exception\n"
      "of a value that a Conversion refuses." },
    { "set_error_factory", qv_set_error_factory, METH_O,
      "set_error_factory(f): f(Field, index, value, reason) returns a refused store's exception." },
    { 0 }
};

static struct PyModuleDef state_module = {
    PyModuleDef_HEAD_INIT,
    "_state",
    "State with the layout of C structs, and the locks that guard it.",
    -1,
    state_methods,
    NULL,
    NULL,
    NULL,
    NULL
};

/* Steals object. */
static int add(PyObject *module, const char *name, PyObject *object)
{
    int ret = object ? PyModule_AddObjectRef(module, name, object) : -1;

    Py_XDECREF(object);
    return ret;
}

static int add_type(PyObject *module, PyTypeObject **type, PyType_Spec *spec)
{
    *type = (PyTypeObject *)PyType_FromSpec(spec);
    return *type ? PyModule_AddType(module, *type) : -1;
}

PyMODINIT_FUNC PyInit__state(void)
{
    PyObject *module = PyModule_Create(&state_module);

    if (!module || add_type(module, &qv_memory_type, &qv_memory_spec) < 0
        || add_type(module, &qv_field_type, &qv_field_spec) < 0
        || add_type(module, &qv_array_type, &qv_array_spec) < 0
        || add_type(module, &qv_cell_type, &qv_cell_spec) < 0
        || add_type(module, &number_run_type, &qv_number_run_spec) < 0
        || add_type(module, &qv_conversion_type, &qv_conversion_spec) < 0
        || add_type(module, &fast_path_type, &qv_fast_path_spec) < 0
        || add_type(module, &bridge_object_type, &qv_bridge_object_spec) < 0
        || add(module, "Guard", Py_XNewRef((PyObject *)qv_new_guard_type())) < 0
        || add(module, "mutex_lock", qv_new_mutex_lock()) < 0
        || add(module, "memory_snapshot", qv_new_memory_snapshot()) < 0
        || add(module, "memory_restore", qv_new_memory_restore()) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
