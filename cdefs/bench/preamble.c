/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What qemu_vmstate.bindings._bench is compiled with, besides Python.h. */
#include <stddef.h>
#include <stdint.h>
#include "bench/reference_device.h"
