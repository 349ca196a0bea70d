/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See migration_error.h. */
#include "bridge/migration_error.h"

char *qv_refusal; /* owner: this file; guarded by the BQL */

void qv_report_failure(bool saving, const char *errmsg)
{
    qv.error_report("%s", errmsg);
    /*
     * For query-migrate, which would else have an errno at most.  The load of a
     * snapshot is no migration: it has a job to tell, and an error that stays here
     * would fail the next load in QEMU 10.
     */
    if (saving || qv_expects_incoming()) {
        qv_set_migrate_error(errmsg);
    }
}

void qv_refuse(const char *format, ...)
{
    va_list arguments;
    char *sentence;

    va_start(arguments, format);
    sentence = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (!qv_reported) {
        qv_report_failure(false, sentence);
    } else if (!qv_refusal) {
        qv_refusal = g_steal_pointer(&sentence);
    }
    g_free(sentence);
}
