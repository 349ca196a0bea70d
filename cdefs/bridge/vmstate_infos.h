/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells the bridge's own VMStateInfos, which qv_own_info() makes. */
#ifndef QV_VMSTATE_INFOS_H
#define QV_VMSTATE_INFOS_H

#include "bridge/qemu.h"

/* Return whether info checks the limits of a number, and put into *is_signed of which kind. */
bool qv_info_is_bounded(const VMStateInfo *info, bool *is_signed);
bool qv_info_is_timer(const VMStateInfo *info);
/* Whether the field is bytes as they are, with a name that tells what they contain. */
bool qv_info_is_bytes(const VMStateInfo *info);

#endif
