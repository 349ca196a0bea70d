/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reporting why a migration fails, where a callback of QEMU has no Error to set. */
#ifndef QV_MIGRATION_ERROR_H
#define QV_MIGRATION_ERROR_H

#include "bridge/qemu.h"

/*
 * Report that a VMStateInfo of ours refuses what the stream has; it can return QEMU only an
 * errno.  qv_load() finds the first message in qv_refusal, a migration writes it to the log.
 */
extern char *qv_refusal;
void qv_refuse(const char *format, ...) G_GNUC_PRINTF(1, 2);

/*
 * Keep the Error of QEMU's walk inside a VMStateInfo of ours, which can return QEMU only an errno.
 * qv_load() finds the first one in qv_walk_error, a migration writes it to the log.  Takes err over.
 */
extern Error *qv_walk_error;
void qv_keep_error(Error *err);
/*
 * Return the kept Error if there is one, which has the reason of err, after what err has in front of
 * QEMU's own words for it; else return err.  Takes err over.
 */
Error *qv_reason_of(Error *err);

/* Report that a migration fails: to QEMU's log, and as the error-desc of query-migrate. */
void qv_report_failure(bool saving, const char *errmsg);

#endif
