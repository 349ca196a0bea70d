/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU closes 0 and 1 with a stdio chardev, before Python's exit functions or at any time with
 * chardev-remove, and other numbers that it was given, as with -incoming fd:0.  The next file that
 * anything opens would then get what print() writes.
 *
 * A duplicate that is put back later would be late for threads that open files meanwhile, and
 * would not go over to what -daemonize puts there.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <unistd.h>

#include "shim/imports.h"
#include "shim/standard_descriptors.h"

static pid_t qemu_process;

static int close_others(int fd)
{
    /* QEMU's children may close theirs. */
    if (fd >= STDIN_FILENO && fd <= STDERR_FILENO && getpid() == qemu_process) {
        return 0;
    }
    return close(fd);
}

bool qv_keep_standard_descriptors(void)
{
    int fd;

    /* Whoever started QEMU may have closed some. */
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
    qemu_process = getpid();
    return fd >= 0 && qv_replace_import(qv_inside_executable(), "close", (void *)close_others);
}
