/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The includes of qemu_vmstate.bindings._bench, besides Python.h. */
#include <stddef.h>
#include <stdint.h>
#include "bench/reference_device.h"
