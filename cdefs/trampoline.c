/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trampoline: what of an object's snapshot and restore is Python's, when that is
 * only the states' own conversions.  See trampoline.h.
 */
#include "state.h"
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
} Trampoline;

static PyObject *snapshot_name, *restore_name;

static int trampoline_clear(PyObject *obj)
{
    Trampoline *self = (Trampoline *)obj;
    Py_ssize_t i;

    Py_CLEAR(self->failed);
    Py_CLEAR(self->undone);
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
    PyObject *failed, *undone, *steps;
    Py_ssize_t i, count;
    Trampoline *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOO!", &failed, &undone, &PyTuple_Type, &steps)) {
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
    if (!self->steps || !snapshot_name || !restore_name) {
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

/* Whether the cell is locked now and its state whole; else the long way says why not. */
static bool lock(Step *step)
{
    QvCell *cell = step->cell->cell;

    if (qv_cell_trylock(cell) != 0) {
        int ret;

        if (qv_cell_is_mine(cell)) {
            return false;
        }
        Py_BEGIN_ALLOW_THREADS
        ret = qv_cell_lock(cell, NULL);
        Py_END_ALLOW_THREADS
        if (ret) {
            return false;
        }
    }
    if (cell->poisoned) {
        qv_cell_unlock(cell);
        return false;
    }
    return true;
}

static void bring_to_rest(Step *step)
{
    step->staged->image = step->image.buf;
    step->staged->lazy = QV_UNRESET;
    if (step->staged->size < LAZY_SIZE) {
        qv_settle(step->staged);
    }
}

static int snapshot(void *context, char **why)
{
    Trampoline *self = context;
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        Step *step = &self->steps[i];
        PyObject *done;

        if (!lock(step)) {
            return QV_LONG_WAY;
        }
        bring_to_rest(step);
        done = PyObject_CallMethodObjArgs(step->state, snapshot_name, step->staged, NULL);
        qv_cell_unlock(step->cell->cell);
        qv_settle(step->staged);
        if (!done) {
            return fail(self, i, true, why);
        }
        Py_DECREF(done);
    }
    return 0;
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

static int restore_step(Trampoline *self, Step *step, int version_id, char *before, char **why)
{
    PyObject *version = PyLong_FromLong(version_id), *done = NULL, *source;

    if (!lock(step)) {
        Py_XDECREF(version);
        PyErr_Clear();
        return QV_LONG_WAY;
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
    qv_cell_unlock(step->cell->cell);
    Py_XDECREF(version);
    if (step->forgets) {
        Py_XDECREF(source);
    } else if (source && take_back(source) < 0) {
        Py_CLEAR(done);
    }
    if (!done) {
        return fail(self, 0, false, why);
    }
    Py_DECREF(done);
    return 0;
}

static int restore(void *context, int version_id, char **why)
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
    ret = restore_step(self, step, version_id, before, why);
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
