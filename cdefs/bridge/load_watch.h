/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_LOAD_WATCH_H
#define QV_LOAD_WATCH_H

/* Watch for the end of each load, to close the undo log; the first registration calls it. */
void qv_watch_loads(void);

#endif
