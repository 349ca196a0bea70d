/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stores an int that is within the limits in half the time that qv_store_value() takes. */
#include "state/number.h"
#include "state/values.h"
#include <limits.h>

void qv_number_set(Number *number, PyObject *obj)
{
    Field *field = (Field *)Py_NewRef(obj);

    number->field = field;
    if (strchr("?fd", field->kind)) {
        number->low = 1;
        number->high = 0;
        return;
    }
    number->low = field->low;
    number->high = strchr("bhiq", field->kind) ? (long long)field->high
                   : field->high > LLONG_MAX   ? LLONG_MAX
                                               : (long long)field->high;
}

/* False: qv_store_value() decides. */
static bool store_int(const Number *number, char *p, PyObject *value)
{
    long long whole;
    int overflow;

    if (!PyLong_CheckExact(value)) {
        return false;
    }
    whole = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow || whole < number->low || whole > number->high) {
        return false;
    }
    switch (number->field->size) {
    case 1:
        *(uint8_t *)p = whole;
        break;
    case 2:
        *(uint16_t *)p = whole;
        break;
    case 4:
        *(uint32_t *)p = whole;
        break;
    default:
        *(uint64_t *)p = whole;
        break;
    }
    return true;
}

int qv_number_store(const Number *number, Memory *memory, Py_ssize_t at, PyObject *value)
{
    at += number->field->offset;
    return store_int(number, memory->mem + at, value)
               ? 0
               : qv_store_value(number->field, memory->mem + at, value, -1, (PyObject *)memory);
}
