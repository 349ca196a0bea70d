/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef REFERENCE_INTERNAL_H
#define REFERENCE_INTERNAL_H

#include "qemu/osdep.h"
#include <linux/types.h>
#include "migration/vmstate.h"
#include "migration/qemu-file-types.h"
#include "qemu/queue.h"
#include "qemu/timer.h"

#include "reference.h"

const Device *unit_device(int i);

extern const VMStateDescription vmstate_pair;

#endif
