/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_STANDARD_DESCRIPTORS_H
#define QV_STANDARD_DESCRIPTORS_H

#include <stdbool.h>

/*
 * Keep descriptors 0 to 2 open until the process ends, so that no file gets one of their numbers.
 * Return whether that was possible.
 */
bool qv_keep_standard_descriptors(void);

#endif
