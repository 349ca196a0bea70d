/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the shim uses of QEMU, the same in every version, so that one shim serves all of them.
 * bridge/shim_abi.c compares it with the headers of each tree, except for the plugin API, which is
 * a public one.
 */
#ifndef QV_SHARED_QEMU_ABI_H
#define QV_SHARED_QEMU_ABI_H

#include <stdint.h>

/* As qemu_plugin_id_t of qemu/qemu-plugin.h. */
typedef uint64_t QvPluginId;

/* As Notifier of qemu/notify.h. */
typedef struct QvNotifier {
    void (*notify)(struct QvNotifier *notifier, void *data);
    void *links[2];
} QvNotifier;

/* As MODULE_INIT_OPTS of qemu/module.h. */
#define QV_MODULE_INIT_OPTS 2

/* As VersionTriple and VersionInfo of qapi/qapi-types-control.h. */
typedef struct QvVersionTriple {
    int64_t major, minor, micro;
} QvVersionTriple;

typedef struct QvVersionInfo {
    QvVersionTriple *qemu;
    char *package;
} QvVersionInfo;

#endif
