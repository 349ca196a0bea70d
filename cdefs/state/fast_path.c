/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trampoline: what of an object's snapshot and restore is Python's, when that is
 * only the states' own conversions.  See trampoline.h.
 */
#include "state/state.h"
#include "shared/cells.h"
#include "shared/python_table.h"

/*
 * How a restore is undone.  One of an UNDO_NOTHING that raises has changed nothing;
 * to undo it after it has returned, and an UNDO_FORMER always, takes a former that
 * Python keeps.  Memory is what an UNDO_MEMORY is.
 */
enum { UNDO_NOTHING, UNDO_FORMER, UNDO_MEMORY, UNDO_LONG_WAY };

typedef struct {
    PyObject *state;    /* strong; a ToMigrationState */
    Memory *staged;     /* strong; its part of the staging struct */
    int undo;
    int forgets;        /* its restore keeps nothing of its source */
} Step;

/* What a snapshot needs comes first: of ten thousand, each line of memory counts. */
typedef struct {
    PyObject_HEAD
    Step *steps;        /* owner: this object */
    Py_ssize_t count;
    QvCell **cells;     /* owner: steps, behind them */
    size_t n_cells;
    PyObject *whose;    /* strong: for Python, which of them this is */
    PyObject *failed;   /* strong: failed(whose, index, saving, exception, &why) -> errno */
    PyObject *undo;     /* strong: undo(whose, index, former, exception) */
    PyObject *owner;    /* strong: the distinct Cells of all parts, C's too */
} Trampoline;

static PyObject *snapshot_name, *restore_name, *former_name;
/* Of a load that may fail later: (whose, formers) of each object; see state.c. */
static PyObject *formers;

static int trampoline_clear(PyObject *obj)
{
    Trampoline *self = (Trampoline *)obj;
    Py_ssize_t i;

    Py_CLEAR(self->whose);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->undo);
    Py_CLEAR(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_CLEAR(self->steps[i].state);
        Py_CLEAR(self->steps[i].staged);
    }
    self->count = 0;
    return 0;
}

static int trampoline_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Trampoline *self = (Trampoline *)obj;
    Py_ssize_t i;

    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->whose);
    Py_VISIT(self->failed);
    Py_VISIT(self->undo);
    Py_VISIT(self->owner);
    for (i = 0; i < self->count; i++) {
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
    PyObject *state, *staged;
    int undo, forgets;

    if (!PyArg_ParseTuple(item, "OOip", &state, &staged, &undo, &forgets)) {
        return -1;
    }
    if (!PyObject_TypeCheck(staged, qv_memory_type)) {
        PyErr_SetString(PyExc_TypeError, "a step is (state, Memory, undo, forgets)");
        return -1;
    }
    step->state = Py_NewRef(state);
    step->staged = (Memory *)Py_NewRef(staged);
    step->undo = undo;
    step->forgets = forgets;
    self->count++;
    return 0;
}

static PyObject *trampoline_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *whose, *failed, *undo, *steps, *cells;
    Py_ssize_t i, count;
    QvCell **distinct;
    Trampoline *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOO!O!", &whose, &failed, &undo, &PyTuple_Type, &steps,
                          &PyTuple_Type, &cells)) {
        return NULL;
    }
    if (!snapshot_name) {
        snapshot_name = PyUnicode_InternFromString("snapshot_migration_state");
        restore_name = PyUnicode_InternFromString("restore_migrated_state_mut");
        former_name = PyUnicode_InternFromString("_former_migrated_state");
    }
    self = (Trampoline *)PyType_GenericAlloc(type, 0);
    count = PyTuple_Size(steps);
    if (!self) {
        return NULL;
    }
    self->whose = Py_NewRef(whose);
    self->failed = Py_NewRef(failed);
    self->undo = Py_NewRef(undo);
    self->owner = Py_NewRef(cells);
    distinct = qv_cells_of(cells, &self->n_cells);
    if (!distinct) {
        Py_DECREF(self);
        return NULL;
    }
    self->steps = PyMem_Calloc(1, count * sizeof(Step) + self->n_cells * sizeof(*distinct) + 1);
    if (self->steps) {
        self->cells = (QvCell **)(self->steps + count);
        memcpy(self->cells, distinct, self->n_cells * sizeof(*distinct));
    }
    PyMem_Free(distinct);
    if (!self->steps || !snapshot_name || !restore_name || !former_name) {
        Py_DECREF(self);
        return PyErr_NoMemory();
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
    answer = PyObject_CallFunction(self->failed, "OniON", self->whose, index, (int)saving, value,
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

        done = PyObject_CallMethodObjArgs(step->state, snapshot_name, step->staged, NULL);
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

PyObject *qv_take_formers(PyObject *module, PyObject *count)
{
    Py_ssize_t has = formers ? PyList_Size(formers) : 0;
    Py_ssize_t wanted = PyNumber_AsSsize_t(count, NULL);
    Py_ssize_t from = wanted < has ? has - wanted : 0;
    PyObject *taken = formers ? PyList_GetSlice(formers, from, has) : PyList_New(0);

    (void)module;
    if (PyErr_Occurred() || (formers && PyList_SetSlice(formers, from, has, NULL) < 0)) {
        Py_CLEAR(taken);
    }
    return taken;
}

PyObject *qv_add_formers(PyObject *module, PyObject *entry)
{
    (void)module;
    if (!formers) {
        formers = PyList_New(0);
    }
    return formers && PyList_Append(formers, entry) == 0 ? Py_NewRef(Py_None) : NULL;
}

/*
 * The formers of a restore lie one behind the other, each its state's memory or a
 * PyObject *, which is NULL if it is not needed.
 */
static size_t former_size(const Step *step)
{
    size_t size = step->undo == UNDO_MEMORY ? ((Memory *)step->state)->size : 0;

    return size ? (size + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *) : sizeof(void *);
}

/* -1 with an exception. */
static int keep_former(Step *step, char *former, bool needed)
{
    if (step->undo == UNDO_MEMORY) {
        memcpy(former, ((Memory *)step->state)->mem, ((Memory *)step->state)->size);
        return 0;
    }
    *(PyObject **)former = NULL;
    if (needed || step->undo == UNDO_FORMER) {
        *(PyObject **)former = PyObject_CallMethodObjArgs(step->state, former_name, NULL);
        return *(PyObject **)former ? 0 : -1;
    }
    return 0;
}

/* As it was: its memory, and what else it changed as its own restore makes it. */
static void undo_step(Trampoline *self, Py_ssize_t index, char *former, PyObject *exception)
{
    Step *step = &self->steps[index];
    Memory *state = (Memory *)step->state;
    PyObject *kept = step->undo == UNDO_MEMORY ? Py_None : *(PyObject **)former, *done;

    if (!kept) {
        return;
    }
    if (step->undo == UNDO_MEMORY) {
        memcpy(state->mem, former, state->size);
    }
    done = PyObject_CallFunction(self->undo, "OnOO", self->whose, index, kept, exception);
    if (!done) {
        PyErr_WriteUnraisable(self->undo);
    }
    Py_XDECREF(done);
    if (step->undo == UNDO_MEMORY) {
        memcpy(state->mem, former, state->size);
    }
}

/* The first steps, newest first; past is behind their formers. */
static void undo_steps(Trampoline *self, Py_ssize_t count, char *past)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    while (count--) {
        past -= former_size(&self->steps[count]);
        undo_step(self, count, past, value);
    }
    PyErr_Restore(type, value, traceback);
}

/* For a failure that comes later. */
static void remember(Trampoline *self, char *former)
{
    PyObject *kept = PyTuple_New(self->count), *entry, *added;
    Py_ssize_t i;

    for (i = 0; kept && i < self->count; i++) {
        Step *step = &self->steps[i];
        PyObject *one;

        if (step->undo == UNDO_MEMORY) {
            one = PyBytes_FromStringAndSize(former, ((Memory *)step->state)->size);
        } else {
            one = Py_NewRef(*(PyObject **)former);
        }
        if (!one || PyTuple_SetItem(kept, i, one) < 0) {
            Py_CLEAR(kept);
        }
        former += former_size(step);
    }
    entry = kept ? Py_BuildValue("(ON)", self->whose, kept) : NULL;
    added = entry ? qv_add_formers(NULL, entry) : NULL;
    if (!added) {
        PyErr_WriteUnraisable(self->whose);
    }
    Py_XDECREF(added);
    Py_XDECREF(entry);
}

static void forget_formers(Trampoline *self, Py_ssize_t count, char *former)
{
    Py_ssize_t i;

    for (i = 0; i < count; i++) {
        if (self->steps[i].undo != UNDO_MEMORY) {
            Py_XDECREF(*(PyObject **)former);
        }
        former += former_size(&self->steps[i]);
    }
}

/* -1 with an exception. */
static int restore_step(Step *step, PyObject *version)
{
    PyObject *staged = (PyObject *)step->staged, *done = NULL;
    PyObject *source = step->forgets ? Py_NewRef(staged) : qv_memory_lend(step->staged);

    if (source) {
        done = PyObject_CallMethodObjArgs(step->state, restore_name, source, version, NULL);
    }
    if (step->forgets) {
        Py_XDECREF(source);
    } else if (source && qv_memory_end_loan(source) < 0) {
        Py_CLEAR(done);
    }
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* All of them or none: how many were restored; the exception is that of the next. */
static Py_ssize_t restore_steps(Trampoline *self, int version_id, bool undoes, char *kept)
{
    PyObject *version = PyLong_FromLong(version_id);
    char *past = kept;
    Py_ssize_t i, known = 0;

    for (i = 0; version && i < self->count; i++) {
        Step *step = &self->steps[i];

        if (keep_former(step, past, undoes || i + 1 < self->count) < 0) {
            break;
        }
        past += former_size(step);
        known++;
        if (restore_step(step, version) < 0) {
            break;
        }
    }
    Py_XDECREF(version);
    if (i < self->count) {
        undo_steps(self, known, past);
    } else if (undoes) {
        remember(self, kept);
    }
    forget_formers(self, known, kept);
    return i;
}

static int restore(void *context, int version_id, bool undoes, QvWithLocks *with_locks,
                   void *object, char **why)
{
    Trampoline *self = context;
    char small[1024] __attribute__((aligned(sizeof(void *))));
    char *kept = small;
    size_t size = 0;
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        if (self->steps[i].undo == UNDO_LONG_WAY) {
            return QV_LONG_WAY;
        }
        size += former_size(&self->steps[i]);
    }
    if (size > sizeof(small)) {
        kept = PyMem_Malloc(size);
    }
    if (!kept || !lock(self)) {
        i = -1;
    } else {
        i = restore_steps(self, version_id, undoes, kept);
        if (i == self->count && with_locks) {
            with_locks(object);
        }
        qv_cells_unlock(self->cells, self->n_cells);
    }
    if (kept != small) {
        PyMem_Free(kept);
    }
    if (i < 0) {
        return QV_LONG_WAY;
    }
    return i < self->count ? fail(self, i, false, why) : 0;
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
    { Py_tp_doc, "Trampoline(whose, failed, undo, ((state, staged, undo, forgets), ...), cells): "
                 "the short way from the bridge to states in Mutexes." },
    { Py_tp_new, trampoline_new },
    { Py_tp_dealloc, trampoline_dealloc },
    { Py_tp_traverse, trampoline_traverse },
    { Py_tp_clear, trampoline_clear },
    { 0, NULL }
};

PyType_Spec qv_trampoline_spec = {
    "qemu_vmstate.bindings._state.Trampoline", sizeof(Trampoline), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, trampoline_slots
};
