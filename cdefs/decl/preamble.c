/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What qemu_vmstate._native is compiled with.  Python.h came first: it and
 * QEMU's config-host.h both define these. */
#undef HAVE_COPY_FILE_RANGE
#undef HAVE_OPENPTY
#undef HAVE_PTY_H
#include "qemu/osdep.h"
#include "migration/vmstate.h"
#include "decl/bridge.h"
