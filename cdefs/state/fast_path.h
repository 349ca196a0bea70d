/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FastPath; module.c documents the functions. */
#ifndef QV_STATE_FAST_PATH_H
#define QV_STATE_FAST_PATH_H

#include "state/types.h"
#include "shared/python_table.h"

extern PyType_Spec qv_fast_path_spec;
/* The functions that the bridge calls. */
extern const QvPython qv_python;

PyObject *qv_hand_over(PyObject *module, PyObject *obj);
PyObject *qv_take_over(PyObject *module, PyObject *address);

#endif
