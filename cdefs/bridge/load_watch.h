/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_LOAD_WATCH_H
#define QV_LOAD_WATCH_H

/* Once, from the first registration on: ends the undo log's record of each load. */
void qv_watch_loads(void);

#endif
