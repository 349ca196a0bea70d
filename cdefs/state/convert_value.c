/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversions of numbers, bytes and text. */
#include "state/convert.h"
#include "state/values.h"

static int order_of(double a, double b)
{
    return (a > b) - (a < b);
}

/* A NaN is above every other number; of two, the bits decide. */
static int compare_floats(double a, double b)
{
    uint64_t bits[2];

    if (!isnan(a) && !isnan(b) && (a != 0 || b != 0)) {
        return order_of(a, b);
    }
    if (!isnan(a) != !isnan(b)) {
        return isnan(a) ? 1 : -1;
    }
    memcpy(&bits[0], &a, sizeof(a));
    memcpy(&bits[1], &b, sizeof(b));
    return (bits[0] > bits[1]) - (bits[0] < bits[1]);
}

#define COMPARE(type) \
    return (*(const type *)a > *(const type *)b) - (*(const type *)a < *(const type *)b)

static int compare_number(char kind, const char *a, const char *b)
{
    switch (kind) {
    case 'b':
        COMPARE(int8_t);
    case 'h':
        COMPARE(int16_t);
    case 'H':
        COMPARE(uint16_t);
    case 'i':
        COMPARE(int32_t);
    case 'I':
        COMPARE(uint32_t);
    case 'q':
        COMPARE(int64_t);
    case 'Q':
        COMPARE(uint64_t);
    case 'f':
        return compare_floats(*(const float *)a, *(const float *)b);
    case 'd':
        return compare_floats(*(const double *)a, *(const double *)b);
    default:
        COMPARE(uint8_t);
    }
}

static int number_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    int ret = qv_number_store(&self->number, memory, at, value);

    if (ret < 0) {
        qv_clear_path();
    }
    return ret;
}

static PyObject *number_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    (void)version_id;
    return qv_load_value(self->number.field, memory->mem + at + self->number.field->offset, NULL);
}

static int number_compare(Conversion *self, const char *a, const char *b)
{
    const Field *field = self->number.field;

    return compare_number(field->kind, a + field->offset, b + field->offset);
}

const ConversionKind qv_convert_number = { number_pack, number_unpack, qv_clear_field,
                                           number_compare };

/* A fixed array of numbers, or of bytes if cls is bytes or bytearray. */

static PyObject *field_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    Field *field = self->number.field;
    PyObject *view, *made;

    (void)version_id;
    if (self->cls == &PyBytes_Type) {
        return PyBytes_FromStringAndSize(memory->mem + at + field->offset, field->size);
    }
    if (self->cls == &PyByteArray_Type) {
        return PyByteArray_FromStringAndSize(memory->mem + at + field->offset, field->size);
    }
    view = qv_load_value(field, memory->mem + at + field->offset, (PyObject *)memory);
    made = view ? PySequence_List(view) : NULL;
    Py_XDECREF(view);
    return made;
}

static int field_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    Field *field = self->number.field;
    int ret =
        qv_store_value(field, memory->mem + at + field->offset, value, -1, (PyObject *)memory);

    if (ret < 0) {
        qv_clear_path();
    }
    return ret;
}

static int field_compare(Conversion *self, const char *a, const char *b)
{
    Field *field = self->number.field, *inner = (Field *)field->inner;
    Py_ssize_t i;
    int order = 0;

    for (i = 0; i < field->size && !order; i += inner->size) {
        order = compare_number(inner->kind, a + field->offset + i, b + field->offset + i);
    }
    return order;
}

const ConversionKind qv_convert_field = { field_pack, field_unpack, qv_clear_field, field_compare };

/* Bytes and text: a size, and room for that many bytes. */

/* Making and releasing a view takes as long as a copy of this size. */
#define SMALLEST_VIEW 4096

static int store_bytes(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value,
                       const void *bytes, Py_ssize_t size)
{
    if (size > self->room) {
        qv_refuse_number("bytes", value, size, self->room);
        return -1;
    }
    qv_write_count(self, memory->mem + at, size);
    /* The bytes may be a view of this memory. */
    memmove(memory->mem + at + self->data, bytes, size);
    return 0;
}

static int bytes_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    Py_buffer view;
    int ret;

    if (PyUnicode_Check(value) || !PyObject_CheckBuffer(value)) {
        qv_refuse_value("kind", value, (PyObject *)self->cls, 0);
        return -1;
    }
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0) {
        qv_refuse_because("convert", value, (PyObject *)self->cls);
        return -1;
    }
    ret = store_bytes(self, memory, at, value, view.buf, view.len);
    PyBuffer_Release(&view);
    return ret;
}

static PyObject *bytes_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    Py_ssize_t size = qv_loaded_count(self, memory->mem + at, "loaded bytes");
    const char *bytes = memory->mem + at + self->data;

    (void)version_id;
    if (size < 0) {
        return NULL;
    }
    if (self->cls == &PyMemoryView_Type && size >= SMALLEST_VIEW) {
        return PyMemoryView_FromMemory((char *)bytes, size, PyBUF_READ);
    }
    return self->cls == &PyByteArray_Type ? PyByteArray_FromStringAndSize(bytes, size)
                                          : qv_new_bytes(bytes, size);
}

static void bytes_clear(Conversion *self, char *mem)
{
    qv_write_count(self, mem, 0);
}

static int bytes_compare(Conversion *self, const char *a, const char *b)
{
    Py_ssize_t first = qv_read_count_to_room(self, a), second = qv_read_count_to_room(self, b);
    int order = memcmp(a + self->data, b + self->data, first < second ? first : second);

    return order ? order : (first > second) - (first < second);
}

const ConversionKind qv_convert_bytes = { bytes_pack, bytes_unpack, bytes_clear, bytes_compare };

static int str_pack(Conversion *self, Memory *memory, Py_ssize_t at, PyObject *value)
{
    const char *text;
    Py_ssize_t size;

    if (!PyUnicode_Check(value)) {
        qv_refuse_value("kind", value, (PyObject *)self->cls, 0);
        return -1;
    }
    text = PyUnicode_AsUTF8AndSize(value, &size);
    if (!text) {
        qv_refuse_because("surrogate", value, NULL);
        return -1;
    }
    return store_bytes(self, memory, at, value, text, size);
}

/*
 * The short keys that were loaded last, with their hashes: making a str and its hash takes half the
 * time of loading a dict.  Strong references, which the next key in a place drops.
 */
#define LONGEST_KEY 32
static PyObject *known_keys[512];

static PyObject **place_of_key(const char *text, Py_ssize_t size)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    Py_ssize_t i;

    for (i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    }
    return &known_keys[(hash ^ hash >> 16) % (sizeof(known_keys) / sizeof(known_keys[0]))];
}

static PyObject *new_key(const char *text, Py_ssize_t size)
{
    PyObject **place = place_of_key(text, size), *key = *place;
    Py_ssize_t known_size = 0;
    const char *known = key ? PyUnicode_AsUTF8AndSize(key, &known_size) : NULL;

    if (known && known_size == size && !memcmp(known, text, size)) {
        return Py_NewRef(key);
    }
    PyErr_Clear();
    key = PyUnicode_DecodeUTF8(text, size, "strict");
    if (key && PyObject_Hash(key) != -1) {
        PyObject *previous = *place;

        *place = Py_NewRef(key);
        Py_XDECREF(previous);
    }
    return key;
}

static PyObject *str_unpack(Conversion *self, Memory *memory, Py_ssize_t at, int version_id)
{
    Py_ssize_t size = qv_loaded_count(self, memory->mem + at, "loaded bytes");
    PyObject *text;

    (void)version_id;
    if (size < 0) {
        return NULL;
    }
    text = self->is_key && size <= LONGEST_KEY
               ? new_key(memory->mem + at + self->data, size)
               : PyUnicode_DecodeUTF8(memory->mem + at + self->data, size, "strict");
    if (!text) {
        qv_refuse_because("utf8", Py_None, NULL);
    }
    return text;
}

const ConversionKind qv_convert_str = { str_pack, str_unpack, bytes_clear, bytes_compare };
