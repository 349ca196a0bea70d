/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guard, a locked Mutex; module.c documents the functions. */
#ifndef QV_STATE_GUARD_H
#define QV_STATE_GUARD_H

#include "state/types.h"

PyTypeObject *qv_new_guard_type(void);
PyObject *qv_new_mutex_lock(void);
PyObject *qv_set_guard(PyObject *module, PyObject *cls);
PyObject *qv_track_locks(PyObject *module, PyObject *on);

#endif
