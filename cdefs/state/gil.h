/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The GIL for the bridge; see the members of QvPython in shared/python_table.h. */
#ifndef QV_STATE_GIL_H
#define QV_STATE_GIL_H

int qv_gil_enter(void);
void qv_gil_leave(int state);
int qv_gil_enter_batch(void);
void qv_gil_keep(void);
void qv_gil_leave_batch(int state);
void qv_gil_begin_load(void);
void qv_gil_end_load(void);

#endif
