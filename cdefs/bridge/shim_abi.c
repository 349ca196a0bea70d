/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compares the shim's declarations of QEMU with the tree's; it has no code. */
#include "qemu/osdep.h"
#include "qapi/qapi-types-control.h"
#include "qemu/module.h"
#include "qemu/notify.h"

#include "shared/qemu_abi.h"

#define SAME_MEMBER(own, qemus, member) \
    QEMU_BUILD_BUG_ON(offsetof(own, member) != offsetof(qemus, member))

QEMU_BUILD_BUG_ON(sizeof(QvNotifier) != sizeof(Notifier));
SAME_MEMBER(QvNotifier, Notifier, notify);
QEMU_BUILD_BUG_ON(QV_MODULE_INIT_OPTS != MODULE_INIT_OPTS);
QEMU_BUILD_BUG_ON(sizeof(QvVersionTriple) != sizeof(VersionTriple));
SAME_MEMBER(QvVersionTriple, VersionTriple, major);
SAME_MEMBER(QvVersionTriple, VersionTriple, minor);
SAME_MEMBER(QvVersionTriple, VersionTriple, micro);
SAME_MEMBER(QvVersionInfo, VersionInfo, qemu);
