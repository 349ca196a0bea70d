/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cell: the base of Mutex and BqlRefCell, with the lock's interface for Python. */
#include "state/cell.h"
#include "state/object_util.h"
#include "shared/cells.h"

PyTypeObject *qv_cell_type;

static PyObject *cell_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Cell *self = (Cell *)PyType_GenericAlloc(type, 0);

    (void)args;
    (void)kwargs;
    if (self) {
        qv_cell_init(&self->cell);
    }
    return (PyObject *)self;
}

static int cell_clear(PyObject *obj)
{
    Py_CLEAR(((Cell *)obj)->value);
    return 0;
}

static int cell_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((Cell *)obj)->value);
    return 0;
}

static void cell_dealloc(PyObject *obj)
{
    PyObject_GC_UnTrack(obj);
    cell_clear(obj);
    qv_cell_destroy(&((Cell *)obj)->cell);
    qv_free_object(obj);
}

static PyObject *cell_acquire(PyObject *obj, PyObject *args)
{
    QvCell *cell = &((Cell *)obj)->cell;
    double timeout = -1;
    int ret;

    if (PyTuple_Size(args) > 0 && !PyArg_ParseTuple(args, "d", &timeout)) {
        return NULL;
    }
    ret = qv_cell_trylock(cell);
    if (ret == EBUSY && timeout != 0) {
        Py_BEGIN_ALLOW_THREADS
            if (timeout < 0) {
                ret = qv_cell_lock(cell, NULL);
            } else {
                struct timespec until;

                if (timeout > 1e9) {
                    timeout = 1e9;
                }
                clock_gettime(CLOCK_MONOTONIC, &until);
                until.tv_sec += (time_t)timeout;
                until.tv_nsec += (long)((timeout - (time_t)timeout) * 1e9);
                if (until.tv_nsec >= 1000000000L) {
                    until.tv_nsec -= 1000000000L;
                    until.tv_sec++;
                }
                ret = qv_cell_lock(cell, &until);
            }
        Py_END_ALLOW_THREADS
    }
    return PyLong_FromLong(ret);
}

static PyObject *cell_release(PyObject *obj, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(qv_cell_unlock(&((Cell *)obj)->cell));
}

QvCell **qv_cells_of(PyObject *tuple, size_t *n)
{
    QvCell **cells;
    size_t i;

    *n = PyTuple_Check(tuple) ? (size_t)PyTuple_Size(tuple) : 0;
    cells = PyMem_Calloc(*n + 1, sizeof(*cells));
    for (i = 0; cells && i < *n; i++) {
        PyObject *cell = PyTuple_GetItem(tuple, (Py_ssize_t)i);

        if (!PyObject_TypeCheck(cell, qv_cell_type)) {
            PyMem_Free(cells);
            PyErr_SetString(PyExc_TypeError, "a tuple of Cells is needed");
            return NULL;
        }
        cells[i] = &((Cell *)cell)->cell;
    }
    return cells ? cells : (QvCell **)PyErr_NoMemory();
}

PyObject *qv_lock_cells(PyObject *module, PyObject *tuple)
{
    size_t n, which = 0;
    QvCell **cells = qv_cells_of(tuple, &n);
    int ret;

    (void)module;
    if (!cells) {
        return NULL;
    }
    ret = qv_cells_trylock(cells, n);
    if (ret) {
        Py_BEGIN_ALLOW_THREADS
            ret = qv_cells_lock(cells, n, &which);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(cells);
    return PyLong_FromLong(ret ? (long)which : -1);
}

PyObject *qv_unlock_cells(PyObject *module, PyObject *tuple)
{
    size_t n;
    QvCell **cells = qv_cells_of(tuple, &n);

    (void)module;
    if (!cells) {
        return NULL;
    }
    qv_cells_unlock(cells, n);
    PyMem_Free(cells);
    Py_RETURN_NONE;
}

static PyObject *cell_get_held_by_group(PyObject *obj, void *closure)
{
    QvCell *cell = &((Cell *)obj)->cell;

    (void)closure;
    return PyBool_FromLong(qv_cell_is_mine(cell) && cell->held_by_group);
}

static PyObject *cell_get_poisoned(PyObject *obj, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((Cell *)obj)->cell.poisoned);
}

static int cell_set_poisoned(PyObject *obj, PyObject *value, void *closure)
{
    int poisoned = value ? PyObject_IsTrue(value) : 0;

    (void)closure;
    if (poisoned >= 0) {
        ((Cell *)obj)->cell.poisoned = poisoned;
    }
    return poisoned < 0 ? -1 : 0;
}

static PyObject *cell_get_borrows(PyObject *obj, void *closure)
{
    (void)closure;
    return PyLong_FromLong(((Cell *)obj)->cell.borrow);
}

static int cell_set_borrows(PyObject *obj, PyObject *value, void *closure)
{
    long borrows = value ? PyLong_AsLong(value) : 0;

    (void)closure;
    if (borrows == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (borrows < -1 || borrows > INT16_MAX) {
        PyErr_Format(PyExc_OverflowError, "%ld borrows at once; the limit is %d", borrows,
                     INT16_MAX);
        return -1;
    }
    ((Cell *)obj)->cell.borrow = borrows;
    return 0;
}

static PyMethodDef cell_methods[] = {
    { "_acquire", cell_acquire, METH_VARARGS,
      "_acquire(timeout=-1) -> errno: 0, EBUSY (timeout 0), ETIMEDOUT or EDEADLK.\n"
      "Release the GIL during the wait; timeout in seconds, negative: wait for ever." },
    { "_release", cell_release, METH_NOARGS,
      "_release() -> errno: 0, or EPERM if this thread is not the owner." },
    { 0 }
};

static PyGetSetDef cell_getset[] = {
    { "_held_by_group", cell_get_held_by_group, NULL,
      "Whether this thread holds all cells of an object, and may lock this one again.", NULL },
    { "_poisoned", cell_get_poisoned, cell_set_poisoned,
      "Whether an exception propagated out of a guard.", NULL },
    { "_borrows", cell_get_borrows, cell_set_borrows,
      "-1 while mutably borrowed, else the number of shared borrows.", NULL },
    { 0 }
};

static PyMemberDef cell_members[] = {
    { "_value", T_OBJECT_EX, offsetof(Cell, value), 0, "The guarded state." }, { 0 }
};

static PyType_Slot cell_slots[] = {
    { Py_tp_doc, "The lock in a Mutex or BqlRefCell, shared with the bridge." },
    { Py_tp_new, cell_new },
    { Py_tp_dealloc, cell_dealloc },
    { Py_tp_traverse, cell_traverse },
    { Py_tp_clear, cell_clear },
    { Py_tp_methods, cell_methods },
    { Py_tp_members, cell_members },
    { Py_tp_getset, cell_getset },
    { 0, NULL }
};

PyType_Spec qv_cell_spec = { "qemu_vmstate.bindings._state.Cell", sizeof(Cell), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                             cell_slots };
