/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NumberRun: several numbers of a layout class, stored and loaded by one call each. */
#ifndef QV_STATE_NUMBER_RUN_H
#define QV_STATE_NUMBER_RUN_H

#include "state/types.h"

extern PyType_Spec qv_number_run_spec;

/* See module.c. */
PyObject *qv_states_of(PyObject *module, PyObject *args);

#endif
