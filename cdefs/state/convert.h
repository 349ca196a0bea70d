/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conversions between a Python object of any form and the memory of a layout class.
 *
 * The offsets of a conversion count from the start of the struct that has its fields.  A function
 * gets the memory and the struct's offset instead of a pointer, because memory->mem may move when
 * Python is called: see qv_memory_borrow().
 */
#ifndef QV_STATE_CONVERT_H
#define QV_STATE_CONVERT_H

#include "state/number.h"

typedef struct Conversion Conversion;

typedef struct {
    /* Store a value; -1 with an exception. */
    int (*pack)(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value);
    /* Return a new object with the value in memory, as of a version; NULL with an exception. */
    PyObject *(*unpack)(Conversion *self, Memory *memory, Py_ssize_t at, int version_id);
    /* Store what stands for no value, behind a false bool; a load must accept it. */
    void (*clear)(Conversion *self, char *mem);
    /*
     * Compare two values in memory as sets are sorted: negative, 0 or positive.  Nothing has
     * checked their counts.
     */
    int (*compare)(Conversion *self, const char *a, const char *b);
} ConversionKind;

/* A conversion inside another one; offset is from the outer struct to the inner one. */
typedef struct {
    PyObject *name;         /* strong: the attribute's, interned; or NULL */
    Conversion *conversion; /* strong */
    Py_ssize_t offset;
} Part;

struct Conversion {
    PyObject_HEAD const ConversionKind *kind;
    PyObject *path;      /* strong: str, "Class.field" of the outermost one, else empty */
    Number number;       /* the value, its count, or whether there is one */
    Py_ssize_t data;     /* the offset of the bytes or elements */
    Py_ssize_t room;     /* the most bytes or elements */
    Py_ssize_t stride;   /* the bytes of an element */
    Part *parts;         /* owner: this object */
    Py_ssize_t count;    /* of parts */
    PyTypeObject *cls;   /* strong: the class of its values; or NULL */
    PyObject *to, *back; /* strong: functions; or NULL */
    PyObject *errors;    /* strong: makes the exceptions of to and back; or NULL */
    PyObject *table;     /* strong: dict; or NULL */
    PyObject *initial;   /* strong: bytes, the field's for no value; NULL: zeros */
    Py_ssize_t end;      /* behind the last byte */
    bool is_key;         /* the keys of a dict are often the same in each load */
    bool converts;       /* two values that differ can be the same in memory */
    bool calls_python;   /* even for a value of the class that it should be */
};

/* The kinds; each file with conversions defines some. */
extern const ConversionKind qv_convert_number, qv_convert_field, qv_convert_bytes, qv_convert_str,
    qv_convert_sequence, qv_convert_set, qv_convert_dict, qv_convert_optional, qv_convert_tuple,
    qv_convert_function, qv_convert_object, qv_convert_struct;

/*
 * Set the class InvalidError and the function that makes a refused value's exception:
 * f(reason, value, detail, limit), from Python; see derive/refusals.py.
 */
PyObject *qv_set_conversion_errors(PyObject *module, PyObject *args);
/* Raise that exception; detail is borrowed, or NULL for None. */
void qv_refuse_value(const char *reason, PyObject *value, PyObject *detail, Py_ssize_t limit);
/* Raise the same with a number as detail. */
void qv_refuse_number(const char *reason, PyObject *value, Py_ssize_t number, Py_ssize_t limit);
/* Raise the same because of the exception that is set, unless that is no Exception. */
void qv_refuse_because(const char *reason, PyObject *value, PyObject *detail);
/* Raise the same because of the exception that is set, even if that is an InvalidError. */
void qv_refuse_instead(const char *reason, PyObject *value, PyObject *detail);
/* Put text, which is stolen, before the path of the InvalidError that is set, if it is one. */
void qv_put_under(PyObject *text);
/* Put "[i]" before it. */
void qv_under_index(Py_ssize_t i);
/* Set the path of the InvalidError that is set, if it is one, to the empty string. */
void qv_clear_path(void);

/* Call a function of the conversion's kind for a part. */
int qv_pack_part(const Part *part, Memory *memory, Py_ssize_t at, PyObject *value);
PyObject *qv_unpack_part(const Part *part, Memory *memory, Py_ssize_t at, int version_id);
void qv_clear_part(const Part *part, char *mem);
int qv_compare_part(const Part *part, const char *a, const char *b);
void qv_clear_parts(Conversion *self, char *mem);
int qv_compare_parts(Conversion *self, const char *a, const char *b);

/* Store the field's initial bytes, or zeros. */
void qv_clear_field(Conversion *self, char *mem);

/* Read and write a whole number that counts. */
Py_ssize_t qv_read_count(const Conversion *self, const char *mem);
/* Read it, or the most that there is room for if it is more. */
Py_ssize_t qv_read_count_to_room(const Conversion *self, const char *mem);
void qv_write_count(const Conversion *self, char *mem, Py_ssize_t count);
/* Return the count in memory; -1 with an exception, for reason, if there is no room for it. */
Py_ssize_t qv_loaded_count(const Conversion *self, const char *mem, const char *reason);

#endif
