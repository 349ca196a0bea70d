/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How QEMU learns why a migration fails, where a hook has no way to say it. */
#ifndef QV_MIGRATION_ERROR_H
#define QV_MIGRATION_ERROR_H

#include "bridge/qemu.h"

/*
 * A VMStateInfo of ours refuses what the stream has, and can give QEMU an errno
 * only: qv_load() finds the first sentence here, a migration's goes to the log.
 */
extern char *qv_refusal;
void qv_refuse(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* A migration fails: for the log, and for query-migrate. */
void qv_report_failure(bool saving, const char *errmsg);

#endif
