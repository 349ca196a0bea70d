/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bridge/bridge_functions.h"

const void *qv_bridge_functions(void)
{
    static const QvBridge functions = {
        .qemu = &qv,
        .bql_enter = qv_bql_enter,
        .bql_leave = qv_bql_leave,
        .save_state = qv_save_state,
        .load_state = qv_load_state,
    };

    return &functions;
}
