/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_STACK_H
#define QV_STACK_H

#include "shared/python_table.h"

/* Owner: _state, for the process's life; NULL before qv_set_python(). */
extern const QvPython *qv_python_table;

/* A hook of callbacks.h. */
typedef int QvPythonHook(void *handle, int argument, char **errmsg);

/*
 * hook(handle, argument, why) on a stack that is as large as CPython counts on.
 * Every call of Python from one of QEMU's hooks goes through here.
 *
 * An incoming migration runs on a coroutine's stack of 1 MiB, and CPython's
 * own limit on C recursion is one for 8 MiB: the repr() of a list that is
 * nested 9,000 deep would run over the end.  The thread stays the same, and so
 * do its BQL, its locks and its Python thread state.
 *
 * Returns what the hook returns, or -ENOMEM if there is no room for the stack.
 */
int qv_call_python(QvPythonHook *hook, void *handle, int argument, char **errmsg);

#endif
