/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The head of the C source that cffi generates for qemu_vmstate.bindings._native.  cffi
 * includes Python.h before it, which defines some macros that QEMU's config-host.h defines too.
 */
#undef HAVE_COPY_FILE_RANGE
#undef HAVE_OPENPTY
#undef HAVE_PTY_H
#include "qemu/osdep.h"
#include "migration/vmstate.h"
#include "decl/bridge.h"
