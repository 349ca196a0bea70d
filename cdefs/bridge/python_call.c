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

/*
 * Call hook on the stack that ends at top.  swapcontext() would make three system calls, which
 * take longer than most hooks and would count for the downtime.
 */
static int call_on(char *top, QvPythonHook *hook, void *handle, int argument, char **errmsg)
{
    int ret;

#ifdef __x86_64__
    /* Every register that a call may change by the psABI is an operand or in the clobber list. */
    __asm__ volatile("movq %%rsp, %%rbx\n\t"
                     "movq %[top], %%rsp\n\t"
                     "call *%[hook]\n\t"
                     "movq %%rbx, %%rsp"
                     : "=a"(ret), "+D"(handle), "+S"(argument), "+d"(errmsg)
                     : [top] "r"(top), [hook] "r"(hook)
                     : "rbx", "rcx", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3",
                       "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                       "xmm13", "xmm14", "xmm15", "cc", "memory");
#else
#error "qemu_vmstate knows how to change stacks on x86-64 only"
#endif
    return ret;
}

int qv_call_python(QvPythonHook *hook, void *handle, int argument, char **errmsg)
{
    int ret;

    /* A thread's own stack is large enough, and a nested hook is on the large stack already. */
    if (in_use || !qv_in_coroutine()) {
        return hook(handle, argument, errmsg);
    }
    if (!stack) {
        stack = new_stack();
        if (!stack) {
            return -ENOMEM;
        }
    }
    in_use = true;
    ret = call_on(stack + STACK_SIZE, hook, handle, argument, errmsg);
    in_use = false;
    return ret;
}

int qv_call_on_large_stack(void *handle)
{
    return qv_call_python(qv_py_call, handle, 0, NULL);
}
