/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ArrayView, a view of an array inside a layout class. */
#ifndef QV_STATE_ARRAY_H
#define QV_STATE_ARRAY_H

#include "state/types.h"

extern PyType_Spec qv_array_spec;

#endif
