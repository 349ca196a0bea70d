/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_CHILD_SIGNALS_H
#define QV_CHILD_SIGNALS_H

/*
 * Let children that Python starts block only the signals that the script has blocked, and have
 * none of QEMU's signal handlers.  libpython is an address inside libpython.
 */
void qv_free_children_of_qemus_signals(const void *libpython);

#endif
