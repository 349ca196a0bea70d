/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trampoline: what of an object's snapshot and restore is Python's, when that is
 * only the states' own conversions.  See trampoline.h.
 */
#include "state.h"
#include "cells.h"
#include "trampoline.h"

/* How a restore that fails is undone. */
enum { UNDO_NOTHING, UNDO_MEMORY, UNDO_LONG_WAY };

/* A smaller one is quicker brought to rest than asked whether it has to be. */
#define LAZY_SIZE 4096

typedef struct {
    Cell *cell;         /* strong; what guards the state */
    PyObject *state;    /* strong; a ToMigrationState */
    Memory *staged;     /* strong; its part of the staging struct */
    Py_buffer image;    /* what staged holds at rest */
    int undo;
    int forgets;        /* its restore keeps nothing of its source */
} Step;

typedef struct {
    PyObject_HEAD
    PyObject *failed;   /* strong: failed(index, saving, exception, address of why) -> errno */
    PyObject *undone;   /* strong: undone(state, exception); its memory is as it was */
    Step *steps;        /* owner: this object */
    Py_ssize_t count;
    PyObject *owner;    /* strong: the distinct Cells of all parts, C's too */
    QvCell **cells;     /* owner: this object */
    size_t n_cells;
} Trampoline;

static PyObject *snapshot_name, *restore_name;
/* Of a load that may fail later: (failed, former) of each restore; see state.c. */
static PyObject *formers;

static int trampoline_clear(PyObject *obj)
{
    Trampoline *self = (Trampoline *)obj;
    Py_ssize_t i;

    Py_CLEAR(self->failed);
    Py_CLEAR(self->undone);
    Py_CLEAR(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_CLEAR(self->steps[i].cell);
        Py_CLEAR(self->steps[i].state);
        Py_CLEAR(self->steps[i].staged);
        PyBuffer_Release(&self->steps[i].image);
    }
    self->count = 0;
    return 0;
}

static int trampoline_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Trampoline *self = (Trampoline *)obj;
    Py_ssize_t i;

    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->failed);
    Py_VISIT(self->undone);
    Py_VISIT(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_VISIT(self->steps[i].cell);
        Py_VISIT(self->steps[i].state);
        Py_VISIT(self->steps[i].staged);
    }
    return 0;
}

static void trampoline_dealloc(PyObject *obj)
{
    PyObject_GC_UnTrack(obj);
    trampoline_clear(obj);
    PyMem_Free(((Trampoline *)obj)->steps);
    PyMem_Free(((Trampoline *)obj)->cells);
    qv_free_object(obj);
}

static int add_step(Trampoline *self, PyObject *item)
{
    Step *step = &self->steps[self->count];
    PyObject *cell, *state, *staged;
    int undo, forgets;

    if (!PyArg_ParseTuple(item, "OOOip", &cell, &state, &staged, &undo, &forgets)) {
        return -1;
    }
    if (!PyObject_TypeCheck(cell, qv_cell_type) || !PyObject_TypeCheck(staged, qv_memory_type)) {
        PyErr_SetString(PyExc_TypeError, "a step is (Cell, state, Memory, undo, forgets)");
        return -1;
    }
    if (qv_get_image((PyObject *)Py_TYPE(staged), &step->image) < 0) {
        return -1;
    }
    step->cell = (Cell *)Py_NewRef(cell);
    step->state = Py_NewRef(state);
    step->staged = (Memory *)Py_NewRef(staged);
    step->undo = undo;
    step->forgets = forgets;
    self->count++;
    return 0;
}

static PyObject *trampoline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *failed, *undone, *steps, *cells;
    Py_ssize_t i, count;
    Trampoline *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOO!O!", &failed, &undone, &PyTuple_Type, &steps,
                          &PyTuple_Type, &cells)) {
        return NULL;
    }
    if (!snapshot_name) {
        snapshot_name = PyUnicode_InternFromString("snapshot_migration_state");
        restore_name = PyUnicode_InternFromString("restore_migrated_state_mut");
    }
    self = (Trampoline *)PyType_GenericAlloc(type, 0);
    count = PyTuple_Size(steps);
    if (!self) {
        return NULL;
    }
    self->failed = Py_NewRef(failed);
    self->undone = Py_NewRef(undone);
    self->steps = PyMem_Calloc(count ? count : 1, sizeof(Step));
    self->owner = Py_NewRef(cells);
    self->cells = qv_cells_of(cells, &self->n_cells);
    if (!self->steps || !self->cells || !snapshot_name || !restore_name) {
        Py_DECREF(self);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    for (i = 0; i < count; i++) {
        if (add_step(self, PyTuple_GetItem(steps, i)) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

/* The pending exception becomes the object's, a sentence and an errno. */
static int fail(Trampoline *self, Py_ssize_t index, bool saving, char **why)
{
    PyObject *type, *value, *traceback, *answer;
    long error = -EINVAL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) {
        PyException_SetTraceback(value, traceback);
    }
    answer = PyObject_CallFunction(self->failed, "niON", index, (int)saving, value,
                                   PyLong_FromVoidPtr(why));
    if (answer) {
        error = PyLong_AsLong(answer);
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(self->failed);
    }
    Py_XDECREF(answer);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return error < 0 ? error : -EINVAL;
}

/* Whether all are locked now and their states whole; else the long way says why not. */
static bool lock(Trampoline *self)
{
    bool whole = true;
    size_t which, i;
    int ret = qv_cells_trylock(self->cells, self->n_cells);

    if (ret) {
        Py_BEGIN_ALLOW_THREADS
        ret = qv_cells_lock(self->cells, self->n_cells, &which);
        Py_END_ALLOW_THREADS
    }
    if (ret) {
        return false;
    }
    for (i = 0; i < self->n_cells; i++) {
        whole = whole && !self->cells[i]->poisoned;
    }
    if (!whole) {
        qv_cells_unlock(self->cells, self->n_cells);
    }
    return whole;
}

static void bring_to_rest(Step *step)
{
    step->staged->image = step->image.buf;
    step->staged->lazy = QV_UNRESET;
    if (step->staged->size < LAZY_SIZE) {
        qv_settle(step->staged);
    }
}

static int snapshot(void *context, QvWithLocks *with_locks, void *object, char **why)
{
    Trampoline *self = context;
    Py_ssize_t i;
    int ret = 0;

    if (!lock(self)) {
        return QV_LONG_WAY;
    }
    for (i = 0; i < self->count && ret == 0; i++) {
        Step *step = &self->steps[i];
        PyObject *done;

        bring_to_rest(step);
        done = PyObject_CallMethodObjArgs(step->state, snapshot_name, step->staged, NULL);
        qv_settle(step->staged);
        if (!done) {
            ret = fail(self, i, true, why);
        }
        Py_XDECREF(done);
    }
    if (ret == 0 && with_locks) {
        with_locks(object);
    }
    qv_cells_unlock(self->cells, self->n_cells);
    return ret;
}

/* What is staged, for a state that may keep it; who does gets a copy. */
static PyObject *lend_staged(Step *step)
{
    PyObject *obj = PyType_GenericAlloc(Py_TYPE((PyObject *)step->staged), 0);
    Memory *lent = (Memory *)obj;

    if (lent) {
        lent->mem = step->staged->mem;
        lent->size = step->staged->size;
        lent->owner = Py_NewRef((PyObject *)step->staged);
        lent->lazy = QV_BORROWED;
    }
    return obj;
}

/* Ends that; -1 with an exception. */
static int take_back(PyObject *obj)
{
    Memory *lent = (Memory *)obj;
    int ret = 0;

    if (Py_REFCNT(obj) > 1 && lent->lazy == QV_BORROWED) {
        ret = qv_settle(lent);
    }
    Py_DECREF(obj);
    return ret;
}

/* The state's memory as it was, and what else it changed as its own restore makes it. */
static void undo(Trampoline *self, Step *step, const char *before)
{
    Memory *state = (Memory *)step->state;
    PyObject *type, *value, *traceback, *done;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    memcpy(state->mem, before, state->size);
    done = PyObject_CallFunctionObjArgs(self->undone, step->state, value, NULL);
    if (!done) {
        PyErr_WriteUnraisable(self->undone);
    }
    Py_XDECREF(done);
    memcpy(state->mem, before, state->size);
    PyErr_Restore(type, value, traceback);
}

PyObject *qv_take_formers(PyObject *module, PyObject *unused)
{
    PyObject *taken = formers ? formers : PyList_New(0);

    (void)module;
    (void)unused;
    formers = NULL;
    return taken;
}

/* What undoes a restore: the state's bytes, or a snapshot of it; NULL: the long way knows. */
static PyObject *former_of(Step *step)
{
    Memory *state = (Memory *)step->state;
    PyObject *former, *done;

    if (step->undo == UNDO_MEMORY) {
        return PyBytes_FromStringAndSize(state->mem, state->size);
    }
    former = PyObject_CallNoArgs((PyObject *)Py_TYPE((PyObject *)step->staged));
    if (former) {
        done = PyObject_CallMethodObjArgs(step->state, snapshot_name, former, NULL);
        if (!done) {
            Py_CLEAR(former);
        }
        Py_XDECREF(done);
    }
    return former;
}

/* Steals former. */
static void remember(Trampoline *self, PyObject *former)
{
    PyObject *entry = Py_BuildValue("(ON)", self->failed, former);

    if (entry && !formers) {
        formers = PyList_New(0);
    }
    if (!entry || !formers || PyList_Append(formers, entry) < 0) {
        PyErr_WriteUnraisable(self->failed);
    }
    Py_XDECREF(entry);
}

static int restore_step(Trampoline *self, Step *step, int version_id, bool undoes, char *before,
                        QvWithLocks *with_locks, void *object, char **why)
{
    PyObject *version = PyLong_FromLong(version_id), *done = NULL, *source, *former = NULL;

    if (!lock(self)) {
        Py_XDECREF(version);
        PyErr_Clear();
        return QV_LONG_WAY;
    }
    if (undoes) {
        former = former_of(step);
        if (!former) {
            qv_cells_unlock(self->cells, self->n_cells);
            Py_XDECREF(version);
            PyErr_Clear();
            return QV_LONG_WAY;
        }
    }
    if (before) {
        memcpy(before, ((Memory *)step->state)->mem, ((Memory *)step->state)->size);
    }
    source = step->forgets ? Py_NewRef((PyObject *)step->staged) : lend_staged(step);
    if (version && source) {
        done = PyObject_CallMethodObjArgs(step->state, restore_name, source, version, NULL);
        if (!done && before) {
            undo(self, step, before);
        }
    }
    if (step->forgets) {
        Py_XDECREF(source);
    } else if (source && take_back(source) < 0) {
        Py_CLEAR(done);
    }
    if (done && with_locks) {
        with_locks(object);
    }
    qv_cells_unlock(self->cells, self->n_cells);
    Py_XDECREF(version);
    if (!done) {
        int ret = fail(self, 0, false, why);

        Py_XDECREF(former);
        return ret;
    }
    Py_DECREF(done);
    if (former) {
        remember(self, former);
    }
    return 0;
}

static int restore(void *context, int version_id, bool undoes, QvWithLocks *with_locks,
                   void *object, char **why)
{
    Trampoline *self = context;
    Step *step = self->steps;
    char small[1024], *before = NULL, *large = NULL;
    int ret;

    /* Of several, one that fails undoes the others. */
    if (self->count != 1 || step->undo == UNDO_LONG_WAY) {
        return QV_LONG_WAY;
    }
    if (step->undo == UNDO_MEMORY) {
        size_t size = ((Memory *)step->state)->size;

        before = size <= sizeof(small) ? small : (large = PyMem_Malloc(size));
        if (!before) {
            return QV_LONG_WAY;
        }
    }
    ret = restore_step(self, step, version_id, undoes, before, with_locks, object, why);
    PyMem_Free(large);
    return ret;
}

static int enter(void)
{
    return PyGILState_Ensure();
}

static void leave(int state)
{
    PyGILState_Release(state);
}

const QvPython qv_python = {
    .enter = enter,
    .leave = leave,
    .snapshot = snapshot,
    .restore = restore,
};

static PyType_Slot trampoline_slots[] = {
    { Py_tp_doc, "Trampoline(failed, undone, ((cell, state, staged, undo), ...)): the short way "
                 "from the bridge to states in Mutexes." },
    { Py_tp_new, trampoline_new },
    { Py_tp_dealloc, trampoline_dealloc },
    { Py_tp_traverse, trampoline_traverse },
    { Py_tp_clear, trampoline_clear },
    { 0, NULL }
};

PyType_Spec qv_trampoline_spec = {
    "qemu_vmstate._state.Trampoline", sizeof(Trampoline), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, trampoline_slots
};
