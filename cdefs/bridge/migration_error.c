/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reporting why a migration fails. */
#include "bridge/migration_error.h"

/* Owner: this file; guarded by the BQL. */
char *qv_refusal;
Error *qv_walk_error;

void qv_report_failure(bool saving, const char *errmsg)
{
    qv.error_report("%s", errmsg);
    /*
     * Without this, query-migrate has an errno at most.  The load of a snapshot is no
     * migration: its job has the error, and one set here would fail the next load in QEMU 10.
     */
    if (saving || qv_expects_incoming()) {
        qv_set_migrate_error(errmsg);
    }
}

void qv_refuse(const char *format, ...)
{
    va_list arguments;
    char *message;

    va_start(arguments, format);
    message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (!qv_reported) {
        qv_report_failure(false, message);
    } else if (!qv_refusal) {
        qv_refusal = g_steal_pointer(&message);
    }
    g_free(message);
}

void qv_keep_error(Error *err)
{
    if (!qv_reported) {
        qv_report_failure(false, qv.error_get_pretty(err));
    } else if (!qv_walk_error) {
        qv_walk_error = g_steal_pointer(&err);
    }
    qv.error_free(err);
}

Error *qv_reason_of(Error *err)
{
    const char *text = err ? qv.error_get_pretty(err) : "";
    const char *own = strstr(text, "Failed to load element of type struct ");
    Error *reason = NULL;

    if (!qv_walk_error) {
        return err;
    }
    qv.error_setg_internal(&reason, __FILE__, __LINE__, __func__, "%.*s%s",
                           own ? (int)(own - text) : 0, text, qv.error_get_pretty(qv_walk_error));
    g_clear_pointer(&qv_walk_error, qv.error_free);
    qv.error_free(err);
    return reason;
}
