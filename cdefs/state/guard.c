/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guard: a locked Mutex.  The case that each access to a register has, where the lock is free,
 * is done here for speed; state/cells.py does all others.
 */
#include "state/guard.h"
#include "state/cell.h"
#include "state/object_util.h"

typedef struct {
    PyObject_HEAD PyObject *mutex; /* strong: a Cell; NULL or None after the release */
} Guard;

static PyTypeObject *guard_type;
/* The class of the guards that lock() returns, derived from Guard.  A strong reference. */
static PyTypeObject *guard_class;
/* Whether check_lock_order() is active, for which every lock and release goes through Python. */
static bool tracked;

static Cell *locked_by(PyObject *obj)
{
    PyObject *mutex = ((Guard *)obj)->mutex;

    return mutex && PyObject_TypeCheck(mutex, qv_cell_type) ? (Cell *)mutex : NULL;
}

static PyObject *mutex_lock(PyObject *obj, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    QvCell *cell = &((Cell *)obj)->cell;

    if (count == 0 && !names && guard_class && !tracked && qv_cell_trylock(cell) == 0) {
        PyObject *guard = cell->poisoned ? NULL : PyType_GenericAlloc(guard_class, 0);

        if (guard) {
            ((Guard *)guard)->mutex = Py_NewRef(obj);
            return guard;
        }
        qv_cell_unlock(cell);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    return qv_call(obj, "_lock", args, count, names);
}

static PyMethodDef mutex_lock_def = {
    "lock", (PyCFunction)(void (*)(void))mutex_lock, METH_FASTCALL | METH_KEYWORDS,
    "lock($self, timeout=-1)\n--\n\n"
    "Lock and return the guard; ``timeout`` in seconds, negative: wait for ever.\n\n"
    "Raises ``TimeoutError``, ``LockError`` if this thread has it already, and\n"
    "``PoisonError`` if an exception left an earlier guard."
};

PyObject *qv_new_mutex_lock(void)
{
    return PyDescr_NewMethod(qv_cell_type, &mutex_lock_def);
}

PyObject *qv_set_guard(PyObject *module, PyObject *cls)
{
    (void)module;
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, guard_type)) {
        PyErr_SetString(PyExc_TypeError, "set_guard() takes a class derived from Guard");
        return NULL;
    }
    Py_XDECREF((PyObject *)guard_class);
    guard_class = (PyTypeObject *)Py_NewRef(cls);
    Py_RETURN_NONE;
}

PyObject *qv_track_locks(PyObject *module, PyObject *on)
{
    int value = PyObject_IsTrue(on);

    (void)module;
    if (value < 0) {
        return NULL;
    }
    tracked = value;
    Py_RETURN_NONE;
}

static PyObject *guard_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *mutex, *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!", qv_cell_type, &mutex)) {
        return NULL;
    }
    self = PyType_GenericAlloc(type, 0);
    if (self) {
        ((Guard *)self)->mutex = Py_NewRef(mutex);
    }
    return self;
}

static PyObject *guard_enter(PyObject *obj, PyObject *unused)
{
    Cell *mutex = locked_by(obj);

    (void)unused;
    /* After a release, the value property raises the error. */
    return mutex && mutex->value ? Py_NewRef(mutex->value) : PyObject_GetAttrString(obj, "value");
}

static PyObject *guard_exit(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    Cell *mutex = locked_by(obj);

    if (!mutex) {
        Py_RETURN_NONE;
    }
    if (count > 0 && args[0] != Py_None) {
        mutex->cell.poisoned = true;
    }
    if (Py_TYPE(obj) == guard_class && !tracked && qv_cell_unlock(&mutex->cell) == 0) {
        Py_CLEAR(((Guard *)obj)->mutex);
        Py_RETURN_NONE;
    }
    return qv_call(obj, "release", NULL, 0, NULL);
}

/* Report a guard that was dropped without release(). */
static void guard_finalize(PyObject *obj)
{
    PyObject *type, *value, *traceback, *done;

    if (!locked_by(obj)) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    done = qv_call(obj, "_dropped", NULL, 0, NULL);
    if (!done) {
        PyErr_WriteUnraisable(obj);
    }
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

static int guard_clear(PyObject *obj)
{
    Py_CLEAR(((Guard *)obj)->mutex);
    return 0;
}

static int guard_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((Guard *)obj)->mutex);
    return 0;
}

static void guard_dealloc(PyObject *obj)
{
    PyObject_GC_UnTrack(obj);
    guard_clear(obj);
    qv_free_object(obj);
}

static PyMethodDef guard_methods[] = {
    { "__enter__", guard_enter, METH_NOARGS, "Return the guarded state." },
    { "__exit__", (PyCFunction)(void (*)(void))guard_exit, METH_FASTCALL,
      "Release the lock; an exception poisons the mutex." },
    { 0 }
};

static PyMemberDef guard_members[] = { { "_mutex", T_OBJECT, offsetof(Guard, mutex), 0, NULL },
                                       { 0 } };

static PyType_Slot guard_slots[] = { { Py_tp_doc, "A locked Mutex." },
                                     { Py_tp_new, guard_new },
                                     { Py_tp_dealloc, guard_dealloc },
                                     { Py_tp_finalize, guard_finalize },
                                     { Py_tp_traverse, guard_traverse },
                                     { Py_tp_clear, guard_clear },
                                     { Py_tp_methods, guard_methods },
                                     { Py_tp_members, guard_members },
                                     { 0, NULL } };

static PyType_Spec guard_spec = { "qemu_vmstate.bindings._state.Guard", sizeof(Guard), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                  guard_slots };

PyTypeObject *qv_new_guard_type(void)
{
    guard_type = (PyTypeObject *)PyType_FromSpec(&guard_spec);
    return guard_type;
}
