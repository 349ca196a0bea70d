/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FastPath: what of an object's snapshot and restore is Python's, when that is
 * only the states' own conversions.  See shared/python_table.h.
 */
#include "state/fast_path.h"
#include "shared/cells.h"
#include "state/cell.h"
#include "state/memory.h"
#include "state/object_util.h"

/*
 * How a restore is undone.  One of an UNDO_NOTHING that raises has changed nothing;
 * to undo it after it has returned, and an UNDO_FORMER always, takes a former that
 * Python keeps.  Memory is what an UNDO_MEMORY is.
 */
enum { UNDO_NOTHING, UNDO_FORMER, UNDO_MEMORY, UNDO_SLOW_PATH };

typedef struct {
    PyObject *state; /* strong; a ToMigrationState */
    Memory *staged;  /* strong; its part of the staging struct */
    int undo;
    int forgets; /* its restore keeps nothing of its source */
} Conversion;

/* What a snapshot needs comes first: of ten thousand, each line of memory counts. */
typedef struct {
    PyObject_HEAD Conversion *conversions; /* owner: this object */
    Py_ssize_t count;
    QvCell **cells; /* owner: conversions, behind them */
    size_t n_cells;
    PyObject *owner_ref; /* strong: for Python, which of them this is */
    PyObject *failed;    /* strong: failed(owner_ref, index, saving, exception, &errmsg) -> errno */
    PyObject *undo;      /* strong: undo(owner_ref, index, former, exception) */
    PyObject *make_undo; /* strong: make_undo(owner_ref, formers) -> Undo */
    PyObject *owner;     /* strong: the distinct Cells of all parts, C's too */
} FastPath;

static PyObject *snapshot_name, *restore_name, *former_name;

static int fast_path_clear(PyObject *obj)
{
    FastPath *self = (FastPath *)obj;
    Py_ssize_t i;

    Py_CLEAR(self->owner_ref);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->undo);
    Py_CLEAR(self->make_undo);
    Py_CLEAR(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_CLEAR(self->conversions[i].state);
        Py_CLEAR(self->conversions[i].staged);
    }
    self->count = 0;
    return 0;
}

static int fast_path_traverse(PyObject *obj, visitproc visit, void *arg)
{
    FastPath *self = (FastPath *)obj;
    Py_ssize_t i;

    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->owner_ref);
    Py_VISIT(self->failed);
    Py_VISIT(self->undo);
    Py_VISIT(self->make_undo);
    Py_VISIT(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_VISIT(self->conversions[i].state);
        Py_VISIT(self->conversions[i].staged);
    }
    return 0;
}

static void fast_path_dealloc(PyObject *obj)
{
    PyObject_GC_UnTrack(obj);
    fast_path_clear(obj);
    PyMem_Free(((FastPath *)obj)->conversions);
    qv_free_object(obj);
}

static int add_conversion(FastPath *self, PyObject *item)
{
    Conversion *conversion = &self->conversions[self->count];
    PyObject *state, *staged;
    int undo, forgets;

    if (!PyArg_ParseTuple(item, "OOip", &state, &staged, &undo, &forgets)) {
        return -1;
    }
    if (!PyObject_TypeCheck(staged, qv_memory_type)) {
        PyErr_SetString(PyExc_TypeError, "a conversion is (state, Memory, undo, forgets)");
        return -1;
    }
    conversion->state = Py_NewRef(state);
    conversion->staged = (Memory *)Py_NewRef(staged);
    conversion->undo = undo;
    conversion->forgets = forgets;
    self->count++;
    return 0;
}

static PyObject *fast_path_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *owner_ref, *failed, *undo, *make_undo, *conversions, *cells;
    Py_ssize_t i, count;
    QvCell **distinct;
    FastPath *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOOO!O!", &owner_ref, &failed, &undo, &make_undo, &PyTuple_Type,
                          &conversions, &PyTuple_Type, &cells)) {
        return NULL;
    }
    if (!snapshot_name) {
        snapshot_name = PyUnicode_InternFromString("snapshot_migration_state");
        restore_name = PyUnicode_InternFromString("restore_migrated_state_mut");
        former_name = PyUnicode_InternFromString("__former_migrated_state__");
    }
    self = (FastPath *)PyType_GenericAlloc(type, 0);
    count = PyTuple_Size(conversions);
    if (!self) {
        return NULL;
    }
    self->owner_ref = Py_NewRef(owner_ref);
    self->failed = Py_NewRef(failed);
    self->undo = Py_NewRef(undo);
    self->make_undo = Py_NewRef(make_undo);
    self->owner = Py_NewRef(cells);
    distinct = qv_cells_of(cells, &self->n_cells);
    if (!distinct) {
        Py_DECREF(self);
        return NULL;
    }
    self->conversions =
        PyMem_Calloc(1, count * sizeof(Conversion) + self->n_cells * sizeof(*distinct) + 1);
    if (self->conversions) {
        self->cells = (QvCell **)(self->conversions + count);
        memcpy(self->cells, distinct, self->n_cells * sizeof(*distinct));
    }
    PyMem_Free(distinct);
    if (!self->conversions || !snapshot_name || !restore_name || !former_name) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (i = 0; i < count; i++) {
        if (add_conversion(self, PyTuple_GetItem(conversions, i)) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

/* The pending exception becomes the object's, a sentence and an errno. */
static int fail(FastPath *self, Py_ssize_t index, bool saving, char **errmsg)
{
    PyObject *type, *value, *traceback, *answer;
    long error = -EINVAL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) {
        PyException_SetTraceback(value, traceback);
    }
    answer = PyObject_CallFunction(self->failed, "OniON", self->owner_ref, index, (int)saving,
                                   value, PyLong_FromVoidPtr(errmsg));
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

/* Whether all are locked now and their states whole; else the slow path says why not. */
static bool lock(FastPath *self)
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

static int snapshot(void *context, QvWithLocks *with_locks, void *object, char **errmsg)
{
    FastPath *self = context;
    Py_ssize_t i;
    int ret = 0;

    if (!lock(self)) {
        return QV_FALL_BACK;
    }
    for (i = 0; i < self->count && ret == 0; i++) {
        Conversion *conversion = &self->conversions[i];
        PyObject *done;

        done =
            PyObject_CallMethodObjArgs(conversion->state, snapshot_name, conversion->staged, NULL);
        if (!done) {
            ret = fail(self, i, true, errmsg);
        }
        Py_XDECREF(done);
    }
    if (ret == 0 && with_locks) {
        with_locks(object);
    }
    qv_cells_unlock(self->cells, self->n_cells);
    return ret;
}

PyObject *qv_hand_over(PyObject *module, PyObject *obj)
{
    PyObject *address = PyLong_FromVoidPtr(obj);

    (void)module;
    if (address) {
        Py_INCREF(obj);
    }
    return address;
}

PyObject *qv_take_over(PyObject *module, PyObject *address)
{
    PyObject *obj = PyLong_AsVoidPtr(address);

    (void)module;
    if (!obj && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "take_over() of address 0");
    }
    return obj;
}

static void release(void *undo)
{
    Py_DECREF((PyObject *)undo);
}

/*
 * The formers of a restore lie one behind the other, each its state's memory or a
 * PyObject *, which is NULL if it is not needed.
 */
static size_t former_size(const Conversion *conversion)
{
    size_t size = conversion->undo == UNDO_MEMORY ? ((Memory *)conversion->state)->size : 0;

    return size ? (size + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *) : sizeof(void *);
}

/* -1 with an exception. */
static int keep_former(Conversion *conversion, char *former, bool needed)
{
    if (conversion->undo == UNDO_MEMORY) {
        memcpy(former, ((Memory *)conversion->state)->mem, ((Memory *)conversion->state)->size);
        return 0;
    }
    *(PyObject **)former = NULL;
    if (needed || conversion->undo == UNDO_FORMER) {
        *(PyObject **)former = PyObject_CallMethodObjArgs(conversion->state, former_name, NULL);
        return *(PyObject **)former ? 0 : -1;
    }
    return 0;
}

/* As it was: its memory, and what else it changed as its own restore makes it. */
static void undo_conversion(FastPath *self, Py_ssize_t index, char *former, PyObject *exception)
{
    Conversion *conversion = &self->conversions[index];
    Memory *state = (Memory *)conversion->state;
    PyObject *kept = conversion->undo == UNDO_MEMORY ? Py_None : *(PyObject **)former, *done;

    if (!kept) {
        return;
    }
    if (conversion->undo == UNDO_MEMORY) {
        memcpy(state->mem, former, state->size);
    }
    done = PyObject_CallFunction(self->undo, "OnOO", self->owner_ref, index, kept, exception);
    if (!done) {
        PyErr_WriteUnraisable(self->undo);
    }
    Py_XDECREF(done);
    if (conversion->undo == UNDO_MEMORY) {
        memcpy(state->mem, former, state->size);
    }
}

/* The first conversions, newest first; past is behind their formers. */
static void undo_conversions(FastPath *self, Py_ssize_t count, char *past)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    while (count--) {
        past -= former_size(&self->conversions[count]);
        undo_conversion(self, count, past, value);
    }
    PyErr_Restore(type, value, traceback);
}

/* What rolls all of it back at a failure that comes later. */
static PyObject *make_undo(FastPath *self, char *former)
{
    PyObject *kept = PyTuple_New(self->count), *made;
    Py_ssize_t i;

    for (i = 0; kept && i < self->count; i++) {
        Conversion *conversion = &self->conversions[i];
        PyObject *one;

        if (conversion->undo == UNDO_MEMORY) {
            one = PyBytes_FromStringAndSize(former, ((Memory *)conversion->state)->size);
        } else {
            one = Py_NewRef(*(PyObject **)former);
        }
        if (!one || PyTuple_SetItem(kept, i, one) < 0) {
            Py_CLEAR(kept);
        }
        former += former_size(conversion);
    }
    made = kept ? PyObject_CallFunctionObjArgs(self->make_undo, self->owner_ref, kept, NULL) : NULL;
    if (!made) {
        PyErr_WriteUnraisable(self->owner_ref);
    }
    Py_XDECREF(kept);
    return made;
}

static void forget_formers(FastPath *self, Py_ssize_t count, char *former)
{
    Py_ssize_t i;

    for (i = 0; i < count; i++) {
        if (self->conversions[i].undo != UNDO_MEMORY) {
            Py_XDECREF(*(PyObject **)former);
        }
        former += former_size(&self->conversions[i]);
    }
}

/* -1 with an exception. */
static int restore_conversion(Conversion *conversion, PyObject *version)
{
    PyObject *staged = (PyObject *)conversion->staged, *done = NULL;
    PyObject *source =
        conversion->forgets ? Py_NewRef(staged) : qv_memory_borrow(conversion->staged);

    if (source) {
        done = PyObject_CallMethodObjArgs(conversion->state, restore_name, source, version, NULL);
    }
    if (conversion->forgets) {
        Py_XDECREF(source);
    } else if (source && qv_memory_end_borrow(source) < 0) {
        Py_CLEAR(done);
    }
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* All of them or none: how many were restored; the exception is that of the next. */
static Py_ssize_t restore_conversions(FastPath *self, int version_id, void **undo, char *kept)
{
    PyObject *version = PyLong_FromLong(version_id);
    char *past = kept;
    Py_ssize_t i, known = 0;

    for (i = 0; version && i < self->count; i++) {
        Conversion *conversion = &self->conversions[i];

        if (keep_former(conversion, past, undo || i + 1 < self->count) < 0) {
            break;
        }
        past += former_size(conversion);
        known++;
        if (restore_conversion(conversion, version) < 0) {
            break;
        }
    }
    Py_XDECREF(version);
    if (i < self->count) {
        undo_conversions(self, known, past);
    } else if (undo) {
        *undo = make_undo(self, kept);
    }
    forget_formers(self, known, kept);
    return i;
}

static int restore(void *context, int version_id, void **undo, QvWithLocks *with_locks,
                   void *object, char **errmsg)
{
    FastPath *self = context;
    char small[1024] __attribute__((aligned(sizeof(void *))));
    char *kept = small;
    size_t size = 0;
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        if (self->conversions[i].undo == UNDO_SLOW_PATH) {
            return QV_FALL_BACK;
        }
        size += former_size(&self->conversions[i]);
    }
    if (size > sizeof(small)) {
        kept = PyMem_Malloc(size);
    }
    if (!kept || !lock(self)) {
        i = -1;
    } else {
        i = restore_conversions(self, version_id, undo, kept);
        if (i == self->count && with_locks) {
            with_locks(object);
        }
        qv_cells_unlock(self->cells, self->n_cells);
    }
    if (kept != small) {
        PyMem_Free(kept);
    }
    if (i < 0) {
        return QV_FALL_BACK;
    }
    return i < self->count ? fail(self, i, false, errmsg) : 0;
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
    .release = release,
};

static PyType_Slot fast_path_slots[] = {
    { Py_tp_doc, "FastPath(owner_ref, failed, undo, ((state, staged, undo, forgets), ...), cells): "
                 "the fast path from the bridge to states in Mutexes." },
    { Py_tp_new, fast_path_new },
    { Py_tp_dealloc, fast_path_dealloc },
    { Py_tp_traverse, fast_path_traverse },
    { Py_tp_clear, fast_path_clear },
    { 0, NULL }
};

PyType_Spec qv_fast_path_spec = { "qemu_vmstate.bindings._state.FastPath", sizeof(FastPath), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, fast_path_slots };
