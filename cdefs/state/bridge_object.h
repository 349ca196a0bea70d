/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BridgeObject, an object in the bridge; module.c documents the functions. */
#ifndef QV_STATE_BRIDGE_OBJECT_H
#define QV_STATE_BRIDGE_OBJECT_H

#include "state/types.h"

extern PyType_Spec qv_bridge_object_spec;

PyObject *qv_set_object_functions(PyObject *module, PyObject *address);
PyObject *qv_forbid_object_calls(PyObject *module, PyObject *unused);

#endif
