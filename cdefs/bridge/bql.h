/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_BRIDGE_BQL_H
#define QV_BRIDGE_BQL_H

#include "bridge/qemu.h"

/* Take the BQL unless this thread has it.  Return whether it was taken, for qv_bql_leave(). */
bool qv_bql_enter(void);
void qv_bql_leave(bool taken);

#endif
