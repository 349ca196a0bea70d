/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU as the bridge sees it: the same for every version, in process and in a VM. */
#ifndef QV_QEMU_H
#define QV_QEMU_H

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "io/channel-buffer.h"
#include "migration/misc.h"
#include "migration/qemu-file.h"
#include "migration/vmstate.h"

#include "decl/bridge.h"

/* QEMU's functions that every version has alike, needed in both worlds. */
/* clang-format off */
#define QV_SYMBOLS(X)                                                   \
    X(error_free) X(error_get_pretty) X(error_setg_internal)            \
    X(object_unref) X(qemu_fclose) X(qemu_fflush) X(qemu_file_get_error) \
    X(qemu_file_new_input) X(qemu_file_new_output) X(qemu_get_be32)     \
    X(qemu_get_be64) X(qemu_get_byte) X(qemu_peek_buffer)               \
    X(qemu_put_be32) X(qemu_put_be64) X(qemu_put_byte)                  \
    X(qio_channel_buffer_new)                                           \
    X(vmstate_info_int8) X(vmstate_info_int16) X(vmstate_info_int32)    \
    X(vmstate_info_int64) X(vmstate_info_uint8) X(vmstate_info_uint16)  \
    X(vmstate_info_uint32) X(vmstate_info_uint64)
/* clang-format on */

/* Needed in a VM only; the migration code alone has stubs of them. */
/* clang-format off */
#define QV_VM_SYMBOLS(X)                                                \
    X(error_report) X(qemu_clock_get_ns) X(timer_deinit) X(timer_del)   \
    X(timer_expire_time_ns) X(timer_init_full) X(timer_mod_ns)          \
    X(vmstate_register_with_alias_id) X(vmstate_unregister)
/* clang-format on */

/* Where qv_init() found them. */
typedef struct QvQemu {
#define QV_MEMBER(name) __typeof__(name) *name;
    QV_SYMBOLS(QV_MEMBER)
    QV_VM_SYMBOLS(QV_MEMBER)
#undef QV_MEMBER
    bool in_vm;
} QvQemu;

extern QvQemu qv;

/* What error_report() said, while this is not NULL; guarded by the BQL. */
extern GString *qv_reported;

int qv_save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, JSONWriter *vmdesc,
                  Error **errp);
int qv_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, int version_id,
                  Error **errp);
JSONWriter *qv_vmdesc_begin(void);
/* Ends and frees it; its text, which the caller frees. */
char *qv_vmdesc_end(JSONWriter *vmdesc);
bool qv_migration_idle(void);
/* Whether this runs on the small stack of one of QEMU's coroutines. */
bool qv_in_coroutine(void);

/* The VM was started with -incoming and does not run yet. */
bool qv_expects_incoming(void);
/* And a migration has begun to come in. */
bool qv_load_is_incoming(void);
/* What query-migrate has as error-desc, unless there is one already. */
void qv_set_migrate_error(const char *message);

/* Whether it is saved when a migration begins, apart from the others. */
bool qv_is_early(const VMStateDescription *vmsd);

#endif
