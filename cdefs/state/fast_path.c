/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FastPath: the Python part of an object's snapshot and restore, if that is only the
 * conversions of its states.  See shared/python_table.h.
 */
#include "state/fast_path.h"
#include "shared/cells.h"
#include "state/cell.h"
#include "state/gil.h"
#include "state/memory.h"
#include "state/object_util.h"

/*
 * How a restore is undone: UNDO_CALL with the result of __undo_migrated_state__(), UNDO_MEMORY
 * with the bytes of the state's memory.  ALL_OR_NOTHING is as UNDO_CALL, but a restore that
 * raises has changed nothing.
 */
enum { UNDO_CALL, UNDO_MEMORY, ALL_OR_NOTHING };

/*
 * What a restore gets as its source: with STAGED the staging struct itself, because it keeps no
 * reference; with LENT and LENT_ONCE an instance that borrows it.  Nothing tells two uses of one
 * with LENT apart, because the class has neither attributes of its own nor weak references.
 */
enum { STAGED, LENT, LENT_ONCE };

typedef struct {
    PyObject *state; /* strong; a ToMigrationState */
    Memory *staged;  /* strong; its part of the staging struct */
    PyObject *lent;  /* strong; with LENT the source of the next restore; NULL during one */
    int undo;
    int source;
} Conversion;

/* A snapshot's members come first: with ten thousand objects, each cache line counts. */
typedef struct {
    PyObject_HEAD Conversion *conversions; /* owner: this object */
    Py_ssize_t count;
    QvCell **cells; /* owner: conversions, behind them */
    size_t n_cells;
    PyObject **undos;    /* owner: conversions, behind cells; guarded by the cells */
    PyObject *owner_ref; /* strong: the weakref.ref of the PythonStaging */
    PyObject *failed;    /* strong: failed(owner_ref, index, hook, exception, &errmsg) -> errno */
    PyObject *roll_back; /* strong: roll_back(owner_ref, undos, exception) */
    PyObject *undo_of_memory; /* strong: undo_of_memory(state, bytes, own_version) -> undo */
    PyObject *own_version;    /* strong: the version_id that a roll back's restore gets */
    PyObject *owner;          /* strong: the distinct Cells of all parts, native ones too */
} FastPath;

static PyObject *snapshot_name, *restore_name, *undo_name;

static int fast_path_clear(PyObject *obj)
{
    FastPath *self = (FastPath *)obj;
    Py_ssize_t i;

    Py_CLEAR(self->owner_ref);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->roll_back);
    Py_CLEAR(self->undo_of_memory);
    Py_CLEAR(self->own_version);
    Py_CLEAR(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_CLEAR(self->conversions[i].state);
        Py_CLEAR(self->conversions[i].staged);
        Py_CLEAR(self->conversions[i].lent);
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
    Py_VISIT(self->roll_back);
    Py_VISIT(self->undo_of_memory);
    Py_VISIT(self->own_version);
    Py_VISIT(self->owner);
    for (i = 0; i < self->count; i++) {
        Py_VISIT(self->conversions[i].state);
        Py_VISIT(self->conversions[i].staged);
        Py_VISIT(self->conversions[i].lent);
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
    int undo, source;

    if (!PyArg_ParseTuple(item, "OOii", &state, &staged, &undo, &source)) {
        return -1;
    }
    if (!PyObject_TypeCheck(staged, qv_memory_type)) {
        PyErr_SetString(PyExc_TypeError, "a conversion is (state, Memory, undo, source)");
        return -1;
    }
    conversion->state = Py_NewRef(state);
    conversion->staged = (Memory *)Py_NewRef(staged);
    conversion->undo = undo;
    conversion->source = source;
    conversion->lent = source == LENT ? qv_memory_borrow(conversion->staged) : NULL;
    self->count++;
    return source == LENT && !conversion->lent ? -1 : 0;
}

/* False with an exception. */
static bool intern_names(void)
{
    if (!snapshot_name) {
        snapshot_name = PyUnicode_InternFromString("snapshot_migration_state");
        restore_name = PyUnicode_InternFromString("restore_migrated_state_mut");
        undo_name = PyUnicode_InternFromString("__undo_migrated_state__");
    }
    return snapshot_name && restore_name && undo_name;
}

static PyObject *fast_path_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *owner_ref, *failed, *roll_back, *undo_of_memory, *own_version, *conversions, *cells;
    Py_ssize_t i, count;
    QvCell **distinct;
    FastPath *self;

    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOOOO!O!", &owner_ref, &failed, &roll_back, &undo_of_memory,
                          &own_version, &PyTuple_Type, &conversions, &PyTuple_Type, &cells)) {
        return NULL;
    }
    self = intern_names() ? (FastPath *)PyType_GenericAlloc(type, 0) : NULL;
    if (!self) {
        return NULL;
    }
    count = PyTuple_Size(conversions);
    self->owner_ref = Py_NewRef(owner_ref);
    self->failed = Py_NewRef(failed);
    self->roll_back = Py_NewRef(roll_back);
    self->undo_of_memory = Py_NewRef(undo_of_memory);
    self->own_version = Py_NewRef(own_version);
    self->owner = Py_NewRef(cells);
    distinct = qv_cells_of(cells, &self->n_cells);
    if (!distinct) {
        Py_DECREF(self);
        return NULL;
    }
    self->conversions =
        PyMem_Calloc(1, count * sizeof(Conversion) + self->n_cells * sizeof(*distinct)
                            + count * sizeof(*self->undos) + 1);
    if (self->conversions) {
        self->cells = (QvCell **)(self->conversions + count);
        self->undos = (PyObject **)(self->cells + self->n_cells);
        memcpy(self->cells, distinct, self->n_cells * sizeof(*distinct));
    }
    PyMem_Free(distinct);
    if (!self->conversions) {
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

/* Report the pending exception to Python; return its errno and set *errmsg. */
static int fail(FastPath *self, Py_ssize_t index, const char *hook, char **errmsg)
{
    PyObject *type, *value, *traceback, *answer;
    long error = -EINVAL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) {
        PyException_SetTraceback(value, traceback);
    }
    answer = PyObject_CallFunction(self->failed, "OnsON", self->owner_ref, index, hook, value,
                                   PyLong_FromVoidPtr(errmsg));
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

/* Lock all cells; return false if one cannot be or is poisoned, which the slow path reports. */
static bool lock(FastPath *self)
{
    bool usable = true;
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
        usable = usable && !self->cells[i]->poisoned;
    }
    if (!usable) {
        qv_cells_unlock(self->cells, self->n_cells);
    }
    return usable;
}

static int snapshot(void *context, int preserve, QvWithLocks *with_locks, void *object,
                    char **errmsg)
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
            ret = fail(self, i, preserve ? "pre_load" : "pre_save", errmsg);
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

/* Keep the undo, or return false with an exception.  needed: also that of ALL_OR_NOTHING. */
static bool keep_undo(FastPath *self, Py_ssize_t index, bool needed)
{
    Conversion *conversion = &self->conversions[index];
    Memory *state = (Memory *)conversion->state;
    PyObject *undo = NULL;

    if (conversion->undo == UNDO_MEMORY) {
        undo = qv_new_bytes(state->mem, state->size);
    } else if (needed || conversion->undo == UNDO_CALL) {
        undo = PyObject_CallMethodObjArgs(conversion->state, undo_name, self->own_version, NULL);
    } else {
        undo = Py_NewRef(Py_None);
    }
    self->undos[index] = undo;
    return undo != NULL;
}

/* Return the first undos as a tuple that owns them, or NULL with an exception. */
static PyObject *take_undos(FastPath *self, Py_ssize_t count)
{
    PyObject *taken = PyTuple_New(count);
    Py_ssize_t i;

    for (i = 0; i < count; i++) {
        PyObject *undo = self->undos[i];

        if (taken && self->conversions[i].undo == UNDO_MEMORY) {
            undo = PyObject_CallFunction(self->undo_of_memory, "ONO", self->conversions[i].state,
                                         undo, self->own_version);
        }
        if (!taken || !undo) {
            Py_XDECREF(undo);
            Py_CLEAR(taken);
        } else {
            PyTuple_SetItem(taken, i, undo);
        }
    }
    return taken;
}

/* Roll the first conversions back.  The exception stays pending; it gets notes of failures here. */
static void roll_back(FastPath *self, Py_ssize_t count)
{
    PyObject *type, *value, *traceback, *undos, *done = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    undos = take_undos(self, count);
    if (undos) {
        done = PyObject_CallFunctionObjArgs(self->roll_back, self->owner_ref, undos, value, NULL);
        Py_DECREF(undos);
    }
    if (!done) {
        PyErr_WriteUnraisable(self->roll_back);
    }
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

/* Return the undo record for a failure later in the load, owner_ref and the undos; or NULL. */
static PyObject *make_undo(FastPath *self)
{
    PyObject *undos = take_undos(self, self->count);
    PyObject *made = undos ? PyTuple_Pack(2, self->owner_ref, undos) : NULL;

    if (!made) {
        PyErr_WriteUnraisable(self->owner_ref);
    }
    Py_XDECREF(undos);
    return made;
}

/* Return the source of a restore, with a reference; NULL with an exception. */
static PyObject *take_source(Conversion *conversion)
{
    PyObject *lent = conversion->lent;

    if (conversion->source == STAGED) {
        return Py_NewRef((PyObject *)conversion->staged);
    }
    conversion->lent = NULL;
    return lent ? lent : qv_memory_borrow(conversion->staged);
}

/* Return whether the source is as it was lent, and nothing refers to it any more. */
static bool is_unused(Conversion *conversion, PyObject *source)
{
    return Py_REFCNT(source) == 1 && ((Memory *)source)->borrowed
           && Py_TYPE(source) == Py_TYPE((PyObject *)conversion->staged);
}

/* Drop the reference, or keep it for the next restore; -1 with an exception. */
static int return_source(Conversion *conversion, PyObject *source)
{
    bool wanted = conversion->source == LENT && !conversion->lent;

    if (conversion->source == STAGED) {
        Py_DECREF(source);
        return 0;
    }
    if (wanted && is_unused(conversion, source)) {
        conversion->lent = source;
        return 0;
    }
    if (wanted) {
        conversion->lent = qv_memory_borrow(conversion->staged);
    }
    return qv_memory_end_borrow(source) < 0 || (wanted && !conversion->lent) ? -1 : 0;
}

/* Return 0, or -1 with an exception. */
static int restore_conversion(Conversion *conversion, PyObject *version)
{
    PyObject *source = take_source(conversion), *done = NULL;

    if (source) {
        done = PyObject_CallMethodObjArgs(conversion->state, restore_name, source, version, NULL);
        if (return_source(conversion, source) < 0) {
            Py_CLEAR(done);
        }
    }
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Restore all or none; return count, or the index of the one whose exception is pending. */
static Py_ssize_t restore_conversions(FastPath *self, int version_id, void **undo)
{
    PyObject *version = PyLong_FromLong(version_id);
    Py_ssize_t i, kept = 0;

    for (i = 0; version && i < self->count; i++) {
        if (!keep_undo(self, i, undo || i + 1 < self->count)) {
            break;
        }
        kept++;
        if (restore_conversion(&self->conversions[i], version) < 0) {
            break;
        }
    }
    Py_XDECREF(version);
    if (i < self->count) {
        roll_back(self, kept);
    } else if (undo) {
        *undo = make_undo(self);
    } else {
        while (kept--) {
            Py_DECREF(self->undos[kept]);
        }
    }
    return i;
}

static int restore(void *context, int version_id, void **undo, QvWithLocks *with_locks,
                   void *object, char **errmsg)
{
    FastPath *self = context;
    Py_ssize_t i;

    if (!lock(self)) {
        return QV_FALL_BACK;
    }
    i = restore_conversions(self, version_id, undo);
    if (i == self->count && with_locks) {
        with_locks(object);
    }
    qv_cells_unlock(self->cells, self->n_cells);
    return i < self->count ? fail(self, i, "post_load", errmsg) : 0;
}

const QvPython qv_python = {
    .enter = qv_gil_enter,
    .leave = qv_gil_leave,
    .enter_batch = qv_gil_enter_batch,
    .keep = qv_gil_keep,
    .leave_batch = qv_gil_leave_batch,
    .begin_load = qv_gil_begin_load,
    .end_load = qv_gil_end_load,
    .snapshot = snapshot,
    .restore = restore,
    .release = release,
};

static PyType_Slot fast_path_slots[] = {
    { Py_tp_doc,
      "FastPath(owner_ref, failed, roll_back, undo_of_memory, own_version, "
      "((state, staged, undo, source), ...), cells): the fast path from the bridge to states in Mutexes." },
    { Py_tp_new, fast_path_new },
    { Py_tp_dealloc, fast_path_dealloc },
    { Py_tp_traverse, fast_path_traverse },
    { Py_tp_clear, fast_path_clear },
    { 0, NULL }
};

PyType_Spec qv_fast_path_spec = { "qemu_vmstate.bindings._state.FastPath", sizeof(FastPath), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, fast_path_slots };
