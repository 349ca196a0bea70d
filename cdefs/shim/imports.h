/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_IMPORTS_H
#define QV_IMPORTS_H

#include <stdbool.h>

/*
 * Let the loaded object that contains the address inside, the executable or a library, call
 * function instead of the one that it imports as name.  Other objects call what they did before.
 * Return whether it imports it.
 */
bool qv_replace_import(const void *inside, const char *name, void *function);

/* Return an address inside the executable. */
const void *qv_inside_executable(void);

/* Return whether address is in the executable.  It may be called in a forked process. */
bool qv_is_in_executable(const void *address);

#endif
