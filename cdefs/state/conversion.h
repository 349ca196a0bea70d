/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conversion: the type in Python. */
#ifndef QV_STATE_CONVERSION_H
#define QV_STATE_CONVERSION_H

#include "state/convert.h"

extern PyTypeObject *qv_conversion_type;
extern PyType_Spec qv_conversion_spec;

#endif
