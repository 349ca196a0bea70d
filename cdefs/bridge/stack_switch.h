/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_STACK_SWITCH_H
#define QV_STACK_SWITCH_H

#include <stddef.h>

/* A function of callbacks.h. */
typedef int QvPythonHook(void *handle, int argument, char **errmsg);

/*
 * Call hook(handle, argument, errmsg) in this thread, on the stack of size bytes from stack on,
 * and return what it returns.  The stack is aligned to 16 bytes at both ends.  Whatever hook
 * changes of the thread, such as errno and the signal mask, stays changed.
 */
int qv_call_on_stack(char *stack, size_t size, QvPythonHook *hook, void *handle, int argument,
                     char **errmsg);

#endif
