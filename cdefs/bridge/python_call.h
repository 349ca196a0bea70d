/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_PYTHON_CALL_H
#define QV_PYTHON_CALL_H

#include "bridge/stack_switch.h"
#include "shared/python_table.h"

/* Owner: _state, which is never unloaded; NULL before qv_set_python(). */
extern const QvPython *qv_python_table;

/*
 * Call hook(handle, argument, errmsg) on a stack that is large enough for CPython.
 * Every call of Python from one of QEMU's hooks goes through here.
 *
 * An incoming migration runs on a coroutine's stack of 1 MiB, but CPython's limit on C
 * recursion assumes 8 MiB: the repr() of a list that is nested 9,000 deep would overflow it.
 * The thread does not change, and with it its BQL, its locks and its Python thread state.
 *
 * Return what the hook returns, or -ENOMEM if there is no memory for the stack.
 */
int qv_call_python(QvPythonHook *hook, void *handle, int argument, char **errmsg);

#endif
