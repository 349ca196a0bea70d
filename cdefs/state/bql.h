/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The big QEMU lock for Python; module.c documents the functions. */
#ifndef QV_STATE_BQL_H
#define QV_STATE_BQL_H

#include "state/object_util.h"

PyObject *qv_state_set_bql(PyObject *module, PyObject *address);
PyObject *qv_state_bql_lock(PyObject *module, PyObject *unused);
PyObject *qv_state_bql_unlock(PyObject *module, PyObject *unused);
PyObject *qv_state_bql_locked(PyObject *module, PyObject *unused);

#endif
