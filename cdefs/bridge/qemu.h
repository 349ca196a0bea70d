/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's functions for the bridge, independent of QEMU's version, in process and in a VM. */
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

/* The functions that are the same in every version, needed in process and in a VM. */
/* clang-format off */
#define QV_SYMBOLS(X)                                                   \
    X(error_free) X(error_get_pretty) X(error_setg_internal)            \
    X(object_unref) X(qemu_fclose) X(qemu_fflush) X(qemu_file_get_error) \
    X(qemu_file_new_input) X(qemu_file_new_output) X(qemu_file_skip)    \
    X(qemu_get_be32) X(qemu_get_be64) X(qemu_get_buffer)                \
    X(qemu_get_byte) X(qemu_peek_buffer) X(qemu_put_be32)               \
    X(qemu_put_be64) X(qemu_put_buffer) X(qemu_put_buffer_async)        \
    X(qemu_put_byte)                                                    \
    X(qio_channel_buffer_new)                                           \
    X(vmstate_info_int8) X(vmstate_info_int16) X(vmstate_info_int32)    \
    X(vmstate_info_int64) X(vmstate_info_uint8) X(vmstate_info_uint16)  \
    X(vmstate_info_uint32) X(vmstate_info_uint64)
/* clang-format on */

/* The functions needed in a VM only; the library of migration code has stubs of them. */
/* clang-format off */
#define QV_VM_SYMBOLS(X)                                                \
    X(error_report) X(qemu_clock_get_ns) X(timer_deinit) X(timer_del)   \
    X(timer_expire_time_ns) X(timer_init_full) X(timer_mod_ns)          \
    X(vmstate_register_with_alias_id) X(vmstate_unregister)
/* clang-format on */

/* Their addresses, which qv_init() looks up. */
typedef struct QvQemu {
#define QV_MEMBER(name) __typeof__(name) *name;
    QV_SYMBOLS(QV_MEMBER)
    QV_VM_SYMBOLS(QV_MEMBER)
#undef QV_MEMBER
    bool in_vm;
} QvQemu;

extern QvQemu qv;

/*
 * Where what error_report() prints is collected, in a string that the first text makes, while it
 * is not NULL; guarded by the BQL.
 */
extern GString **qv_reported;

int qv_save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, JSONWriter *vmdesc,
                  Error **errp);
int qv_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, int version_id,
                  Error **errp);
/* Whether a load refuses an element of the stream for a NULL pointer, and does not end QEMU. */
bool qv_refuses_element_for_null(void);
/* Call the functions of one of QEMU's own VMStateInfos. */
int qv_get(const VMStateInfo *info, QEMUFile *f, void *pv, size_t size, const VMStateField *field);
int qv_put(const VMStateInfo *info, QEMUFile *f, void *pv, size_t size, const VMStateField *field,
           JSONWriter *vmdesc);
JSONWriter *qv_vmdesc_begin(void);
/* End and free the writer.  Return its text, which the caller frees. */
char *qv_vmdesc_end(JSONWriter *vmdesc);
bool qv_migration_idle(void);
/* Return whether this runs on the small stack of one of QEMU's coroutines. */
bool qv_in_coroutine(void);

/* Return whether an incoming postcopy runs, whose devices are in a package in the stream. */
bool qv_in_postcopy(void);
/* Return whether the VM was started with -incoming and has not run so far. */
bool qv_expects_incoming(void);
/* Set the error-desc of query-migrate, unless there is one already. */
void qv_set_migrate_error(const char *message);
/* Return whether query-migrate has one; only where QV_RESULT_BEFORE_CLEANUP. */
bool qv_migrate_has_error(void);
/* Clear the error of an earlier migration or save if it would fail the load of a snapshot. */
int qv_clear_stale_error(char **errmsg);

/* Return whether QEMU saves it when a migration begins, before the other devices. */
bool qv_is_early(const VMStateDescription *vmsd);

#endif
