/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all conversions use: errors with paths, parts and counts. */
#include "state/convert.h"
#include "state/values.h"

/* Strong references, never dropped. */
static PyObject *invalid_error, *factory;

PyObject *qv_set_conversion_errors(PyObject *module, PyObject *args)
{
    PyObject *cls, *function;

    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &cls, &function)) {
        return NULL;
    }
    Py_XDECREF(invalid_error);
    Py_XDECREF(factory);
    invalid_error = Py_NewRef(cls);
    factory = Py_NewRef(function);
    Py_RETURN_NONE;
}

static void raise(PyObject *exc)
{
    if (exc) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
}

void qv_refuse_value(const char *reason, PyObject *value, PyObject *detail, Py_ssize_t limit)
{
    raise(PyObject_CallFunction(factory, "sOOn", reason, value, detail ? detail : Py_None, limit));
}

void qv_refuse_number(const char *reason, PyObject *value, Py_ssize_t number, Py_ssize_t limit)
{
    raise(PyObject_CallFunction(factory, "sOnn", reason, value, number, limit));
}

/* Return the exception that is set, normalised, and clear it; owner: the caller. */
static PyObject *take_exception(void)
{
    PyObject *type, *exc, *traceback;

    PyErr_Fetch(&type, &exc, &traceback);
    PyErr_NormalizeException(&type, &exc, &traceback);
    if (traceback) {
        PyException_SetTraceback(exc, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return exc;
}

static void put_back(PyObject *exc)
{
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
}

void qv_refuse_because(const char *reason, PyObject *value, PyObject *detail)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(invalid_error)) {
        qv_refuse_instead(reason, value, detail);
    }
}

void qv_refuse_instead(const char *reason, PyObject *value, PyObject *detail)
{
    PyObject *cause = take_exception(), *exc;

    exc = PyObject_CallFunction(factory, "sOOO", reason, value, detail ? detail : Py_None, cause);
    if (!exc) {
        Py_DECREF(cause);
        return;
    }
    PyException_SetContext(exc, Py_NewRef(cause));
    PyException_SetCause(exc, cause);
    raise(exc);
}

/* Set the path to before + path, or to before alone; before is stolen. */
static void set_path(PyObject *before, bool keeps)
{
    PyObject *exc, *path, *made = NULL;

    if (!before) {
        return;
    }
    if (!PyErr_ExceptionMatches(invalid_error)) {
        Py_DECREF(before);
        return;
    }
    exc = take_exception();
    path = keeps ? PyObject_GetAttrString(exc, "path") : PyUnicode_FromString("");
    if (path) {
        made = PyUnicode_FromFormat("%U%S", before, path);
    }
    if (!made || PyObject_SetAttrString(exc, "path", made) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(made);
    Py_XDECREF(path);
    Py_DECREF(before);
    put_back(exc);
}

void qv_put_under(PyObject *text)
{
    set_path(text, true);
}

void qv_clear_path(void)
{
    set_path(PyUnicode_FromString(""), false);
}

int qv_pack_part(const Part *part, Memory *memory, Py_ssize_t at, PyObject *value)
{
    return part->conversion->kind->pack(part->conversion, memory, at + part->offset, value);
}

PyObject *qv_unpack_part(const Part *part, Memory *memory, Py_ssize_t at, int version_id)
{
    return part->conversion->kind->unpack(part->conversion, memory, at + part->offset, version_id);
}

void qv_clear_part(const Part *part, char *mem)
{
    part->conversion->kind->clear(part->conversion, mem + part->offset);
}

int qv_compare_part(const Part *part, const char *a, const char *b)
{
    return part->conversion->kind->compare(part->conversion, a + part->offset, b + part->offset);
}

void qv_clear_parts(Conversion *self, char *mem)
{
    Py_ssize_t i;

    for (i = 0; i < self->count; i++) {
        qv_clear_part(&self->parts[i], mem);
    }
}

int qv_compare_parts(Conversion *self, const char *a, const char *b)
{
    Py_ssize_t i;
    int order = 0;

    for (i = 0; i < self->count && !order; i++) {
        order = qv_compare_part(&self->parts[i], a, b);
    }
    return order;
}

void qv_clear_field(Conversion *self, char *mem)
{
    const Field *field = self->number.field;
    const char *initial = self->initial ? PyBytes_AsString(self->initial) : NULL;

    if (initial) {
        memcpy(mem + field->offset, initial, field->size);
    } else {
        memset(mem + field->offset, 0, field->size);
    }
}

Py_ssize_t qv_read_count(const Conversion *self, const char *mem)
{
    const Field *field = self->number.field;
    long long count = field ? qv_read_counter(field->kind, mem + field->offset) : self->room;

    return count < 0 ? 0 : count;
}

Py_ssize_t qv_read_count_to_room(const Conversion *self, const char *mem)
{
    Py_ssize_t count = qv_read_count(self, mem);

    return count < self->room ? count : self->room;
}

void qv_write_count(const Conversion *self, char *mem, Py_ssize_t count)
{
    const Field *field = self->number.field;

    if (field) {
        qv_write_counter(field->kind, mem + field->offset, count);
    }
}

Py_ssize_t qv_loaded_count(const Conversion *self, const char *mem, const char *reason)
{
    Py_ssize_t count = qv_read_count(self, mem);

    if (count > self->room) {
        qv_refuse_number(reason, Py_None, count, self->room);
        return -1;
    }
    return count;
}

void qv_under_index(Py_ssize_t i)
{
    qv_put_under(PyUnicode_FromFormat("[%zd]", i));
}
