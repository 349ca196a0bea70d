/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calling a function on another stack of the same thread: in assembly on x86-64 and AArch64, else,
 * or if QV_PORTABLE_STACK is defined, with swapcontext().  That makes three system calls, which
 * take longer than most hooks and count for the downtime.
 */
#include "bridge/stack_switch.h"

#if defined(__x86_64__) && !defined(QV_PORTABLE_STACK)

int qv_call_on_stack(char *stack, size_t size, QvPythonHook *hook, void *handle, int argument,
                     char **errmsg)
{
    char *top = stack + size;
    int ret;

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
    return ret;
}

#elif defined(__aarch64__) && !defined(QV_PORTABLE_STACK)

int qv_call_on_stack(char *stack, size_t size, QvPythonHook *hook, void *handle, int argument,
                     char **errmsg)
{
    register void *x0 __asm__("x0") = handle;
    register long x1 __asm__("x1") = argument;
    register char **x2 __asm__("x2") = errmsg;
    char *top = stack + size;

    /*
     * Every register that a call may change by the AAPCS64 is an operand or in the clobber list;
     * of v8 to v15 a call keeps only the lower halves.
     */
    __asm__ volatile("mov x19, sp\n\t"
                     "mov sp, %[top]\n\t"
                     "blr %[hook]\n\t"
                     "mov sp, x19"
                     : "+r"(x0), "+r"(x1), "+r"(x2)
                     : [top] "r"(top), [hook] "r"(hook)
                     : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
                       "x15", "x16", "x17", "x18", "x19", "x30", "v0", "v1", "v2", "v3", "v4", "v5",
                       "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",
                       "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27",
                       "v28", "v29", "v30", "v31",
#ifdef __ARM_FEATURE_SVE
                       "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11",
                       "p12", "p13", "p14", "p15", "ffr",
#endif
                       "cc", "memory");
    return (int)(long)x0;
}

#else

#include <signal.h>
#include <ucontext.h>

typedef struct {
    QvPythonHook *hook;
    void *handle;
    int argument;
    char **errmsg;
    int ret;
    ucontext_t caller, callee;
} Call;

/* The call that begins: makecontext() passes only arguments of the type int. */
static __thread Call *beginning;

static void run(void)
{
    Call *call = beginning;

    call->ret = call->hook(call->handle, call->argument, call->errmsg);
    /* The return sets the signal mask of the caller's context: let it be that of now. */
    pthread_sigmask(SIG_BLOCK, NULL, &call->caller.uc_sigmask);
}

int qv_call_on_stack(char *stack, size_t size, QvPythonHook *hook, void *handle, int argument,
                     char **errmsg)
{
    Call call = { .hook = hook, .handle = handle, .argument = argument, .errmsg = errmsg };

    getcontext(&call.callee);
    call.callee.uc_stack.ss_sp = stack;
    call.callee.uc_stack.ss_size = size;
    call.callee.uc_link = &call.caller;
    makecontext(&call.callee, run, 0);
    beginning = &call;
    swapcontext(&call.caller, &call.callee);
    return call.ret;
}

#endif
