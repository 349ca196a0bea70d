/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the bridge hands to a C extension of its own that saves, loads and registers devices. */
#ifndef QV_BRIDGE_FUNCTIONS_H
#define QV_BRIDGE_FUNCTIONS_H

#include "bridge/bql.h"

typedef struct QvBridge {
    const QvQemu *qemu; /* filled by qv_init() */
    __typeof__(qv_bql_enter) *bql_enter;
    __typeof__(qv_bql_leave) *bql_leave;
    __typeof__(qv_save_state) *save_state;
    __typeof__(qv_load_state) *load_state;
} QvBridge;

#endif
