/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ArrayView. */
#ifndef QV_STATE_ARRAY_H
#define QV_STATE_ARRAY_H

#include "state/types.h"

extern PyType_Spec qv_array_spec;

#endif
