/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Field, the data descriptor of a field of a layout class. */
#ifndef QV_STATE_FIELD_H
#define QV_STATE_FIELD_H

#include "state/types.h"

extern PyType_Spec qv_field_spec;

#endif
