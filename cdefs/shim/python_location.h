/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QV_SHIM_PYTHON_LOCATION_H
#define QV_SHIM_PYTHON_LOCATION_H

#include <limits.h>

typedef struct QvPythonLocation {
    char python[PATH_MAX + 32];
    char libpython[PATH_MAX + 64];
} QvPythonLocation;

/*
 * Set the Python and libpython of the installation or virtual environment that the file at
 * address belongs to; libpython may be a bare name, for the dynamic linker to find.
 */
void qv_locate_python(const void *address, QvPythonLocation *location);

#endif
