/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals in the children of a QEMU with Python in it.
 *
 * QEMU blocks SIGALRM and SIGIO in all its threads, and nearly everything in those that it
 * starts, as the migration thread, where hooks run.  Children inherit that, and their terminate()
 * would have no effect.  A thread of QEMU must not unblock a signal, not even for the moment of a
 * fork, so this happens in the child.
 *
 * fork() calls a handler of pthread_atfork(); posix_spawn() and system() do not.  vfork() cannot
 * be replaced, because its caller's frame is used by two processes; boot.py tells subprocess not
 * to use it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/child_signals.h"
#include "shim/imports.h"

/*
 * A signal that QEMU blocks in a thread counts as the script's once the script names it with
 * SIG_BLOCK, until it names it with SIG_UNBLOCK or sets a mask: with SIG_SETMASK scripts restore
 * what they found, which includes QEMU's.
 */
typedef struct {
    bool known;       /* whether qemus is set */
    sigset_t qemus;   /* blocked by QEMU, when Python came into the thread */
    sigset_t scripts; /* blocked by the script, here or in the thread that started this one */
} Blocked;

static __thread Blocked blocked;

typedef struct {
    void *(*routine)(void *);
    void *argument;
    Blocked blocked;
} Start;

static sigset_t without(const sigset_t *set, const sigset_t *others)
{
    sigset_t rest = *set;
    int number;

    for (number = 1; number < NSIG; number++) {
        if (sigismember(others, number) == 1) {
            sigdelset(&rest, number);
        }
    }
    return rest;
}

static void learn_qemus(void)
{
    if (!blocked.known) {
        sigemptyset(&blocked.scripts);
        pthread_sigmask(SIG_BLOCK, NULL, &blocked.qemus);
        blocked.known = true;
    }
}

/* What a child of this thread shall block. */
static sigset_t mask_of_child(void)
{
    sigset_t now, mask;

    learn_qemus();
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    sigandset(&mask, &now, &blocked.scripts);
    return mask;
}

/* --------------------------------------- libpython's functions, replaced */

static int watched_sigmask(int how, const sigset_t *set, sigset_t *previous)
{
    int error;

    learn_qemus();
    error = pthread_sigmask(how, set, previous);
    if (error || !set) {
        return error;
    }
    switch (how) {
    case SIG_BLOCK:
        sigorset(&blocked.scripts, &blocked.scripts, set);
        break;
    case SIG_UNBLOCK:
        blocked.scripts = without(&blocked.scripts, set);
        break;
    case SIG_SETMASK:
        blocked.scripts = without(set, &blocked.qemus);
        break;
    }
    return 0;
}

static void *run_thread(void *opaque)
{
    Start start = *(Start *)opaque;

    free(opaque);
    blocked = start.blocked;
    return start.routine(start.argument);
}

static int create_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*routine)(void *),
                         void *argument)
{
    Start *start =
        malloc(sizeof(*start)); /* owner: the new thread, or this call if there is none */
    int error;

    if (!start) {
        return EAGAIN;
    }
    learn_qemus();
    *start = (Start){ routine, argument, blocked };
    error = pthread_create(thread, attr, run_thread, start);
    if (error) {
        free(start);
    }
    return error;
}

static int spawn(__typeof__(posix_spawn) *function, pid_t *pid, const char *path,
                 const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *given,
                 char *const argv[], char *const envp[])
{
    posix_spawnattr_t attr; /* owner: this call; a copy of given has nothing else to release */
    sigset_t mask = mask_of_child();
    short flags = 0;

    if (given) {
        attr = *given;
        posix_spawnattr_getflags(&attr, &flags);
    } else {
        posix_spawnattr_init(&attr);
    }
    if (!(flags & POSIX_SPAWN_SETSIGMASK)) {
        posix_spawnattr_setflags(&attr, flags | POSIX_SPAWN_SETSIGMASK);
        posix_spawnattr_setsigmask(&attr, &mask);
    }
    return function(pid, path, actions, &attr, argv, envp);
}

static int spawn_path(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                      const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    return spawn(posix_spawn, pid, path, actions, attr, argv, envp);
}

static int spawn_file(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                      const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    return spawn(posix_spawnp, pid, file, actions, attr, argv, envp);
}

/* Unlike system(), this leaves SIGINT and SIGQUIT of the process to QEMU. */
static int run_shell(const char *command)
{
    const char *argv[] = { "sh", "-c", command, NULL };
    pid_t pid;
    int status, error;

    if (!command) {
        return system(NULL);
    }
    error = spawn_path(&pid, "/bin/sh", NULL, NULL, (char **)argv, environ);
    if (error) {
        errno = error;
        return -1;
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return status;
}

/* ------------------------------------------------------------------ fork() */

/* QEMU's handlers only make requests to its main loop, which a forked process does not run. */
static void drop_qemus_handlers(void)
{
    struct sigaction action;
    int number;

    for (number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &action) == 0
            && qv_is_in_executable((const void *)action.sa_handler)) {
            action = (struct sigaction){ .sa_handler = SIG_DFL };
            sigaction(number, &action, NULL);
        }
    }
}

/* The mask of this thread while fork() runs in it. */
static __thread sigset_t at_fork;

/* Block everything, since a signal for the child must not reach a handler of QEMU's there. */
static void before_fork(void)
{
    sigset_t all;

    learn_qemus();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &at_fork);
}

static void in_parent(void)
{
    pthread_sigmask(SIG_SETMASK, &at_fork, NULL);
}

static void in_child(void)
{
    sigset_t mask;

    sigandset(&mask, &at_fork, &blocked.scripts);
    drop_qemus_handlers();
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigemptyset(&blocked.qemus);
    blocked.scripts = mask;
}

void qv_free_children_of_qemus_signals(const void *libpython)
{
    static const struct {
        const char *name;
        void *function;
    } replaced[] = {
        { "pthread_sigmask", (void *)watched_sigmask },
        { "pthread_create", (void *)create_thread },
        { "posix_spawn", (void *)spawn_path },
        { "posix_spawnp", (void *)spawn_file },
        { "system", (void *)run_shell },
    };
    size_t i;

    /* A Python without one of them does not call it. */
    for (i = 0; i < sizeof(replaced) / sizeof(*replaced); i++) {
        qv_replace_import(libpython, replaced[i].name, replaced[i].function);
    }
    pthread_atfork(before_fork, in_parent, in_child);
}
