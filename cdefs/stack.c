/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See stack.h. */
#include "qemu.h"
#include <sys/mman.h>
#include <ucontext.h>

#include "stack.h"

/* Address space: a page of it takes memory once something was that deep. */
#define STACK_SIZE (16 * 1024 * 1024)
#define GUARD_SIZE (64 * 1024)

typedef struct {
    int (*call)(void *);
    void *argument;
    int ret;
    ucontext_t large, back;
} Switch;

/* Owner: the thread, for its life; only QEMU's main thread runs coroutines that load. */
static __thread char *stack;
/* What runs on it, or NULL. */
static __thread Switch *running;

static void enter(void)
{
    running->ret = running->call(running->argument);
}

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

int qv_on_large_stack(int (*call)(void *), void *argument)
{
    Switch this_one = { .call = call, .argument = argument };

    /* A thread's own stack is large; and a hook that saves another object is on ours. */
    if (running || !qv_in_coroutine()) {
        return call(argument);
    }
    if (!stack) {
        stack = new_stack();
        if (!stack) {
            return -ENOMEM;
        }
    }
    getcontext(&this_one.large);
    this_one.large.uc_stack.ss_sp = stack;
    this_one.large.uc_stack.ss_size = STACK_SIZE;
    this_one.large.uc_link = &this_one.back;
    makecontext(&this_one.large, enter, 0);
    running = &this_one;
    swapcontext(&this_one.back, &this_one.large);
    running = NULL;
    return this_one.ret;
}
