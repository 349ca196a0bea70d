/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calling Python on a stack that is large enough for it. */
#include "bridge/qemu.h"
#include <sys/mman.h>

#include "bridge/python_call.h"

/* extern "Python+C" of callbacks.h, defined by the cffi module. */
int qv_py_call(void *handle, int unused, char **errmsg);

const QvPython *qv_python_table;

void qv_set_python(void *table)
{
    qv_python_table = table;
}

/* A size of address space: a page takes memory only after its first use. */
#define STACK_SIZE (16 * 1024 * 1024)
#define GUARD_SIZE (64 * 1024)

/* Owner: the thread, and never freed: only QEMU's main thread runs coroutines that load. */
static __thread char *stack;
static __thread bool in_use;

static char *new_stack(void)
{
    char *memory = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (memory == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(memory, GUARD_SIZE, PROT_NONE) < 0) {
        munmap(memory, STACK_SIZE);
        return NULL;
    }
    return memory;
}

int qv_call_python(QvPythonHook *hook, void *handle, int argument, char **errmsg)
{
    int ret;

    /* A thread's own stack is large enough, and a nested hook is on the large stack already. */
    if (!qv_in_coroutine() || in_use) {
        return hook(handle, argument, errmsg);
    }
    if (!stack) {
        stack = new_stack();
        if (!stack) {
            return -ENOMEM;
        }
    }
    in_use = true;
    ret = qv_call_on_stack(stack, STACK_SIZE, hook, handle, argument, errmsg);
    in_use = false;
    return ret;
}

int qv_call_on_large_stack(void *handle)
{
    return qv_call_python(qv_py_call, handle, 0, NULL);
}
