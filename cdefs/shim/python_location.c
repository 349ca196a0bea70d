/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the Python of a shim that was not told which to use: that of the virtual environment
 * which holds the shim or, for one that was built in a checkout, of the checkout's .venv.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/python_location.h"

/* Cut a path after its parent's; return whether there was one. */
static bool to_parent(char *path)
{
    char *slash = strrchr(path, '/');

    if (!slash || slash == path) {
        return false;
    }
    *slash = '\0';
    return true;
}

static bool is_environment(const char *folder)
{
    char path[PATH_MAX + 32];

    snprintf(path, sizeof(path), "%s/pyvenv.cfg", folder);
    return access(path, R_OK) == 0;
}

/* Set environment to the nearest one around file; return whether there is one. */
static bool find_environment(const char *file, char environment[PATH_MAX])
{
    char folder[PATH_MAX];

    snprintf(folder, sizeof(folder), "%s", file);
    while (to_parent(folder)) {
        if (is_environment(folder)) {
            strcpy(environment, folder);
            return true;
        }
        if (snprintf(environment, PATH_MAX, "%s/.venv", folder) < PATH_MAX
            && is_environment(environment)) {
            return true;
        }
    }
    return false;
}

/* Set name to the first "python3.X" in PREFIX/lib; return whether there is one. */
static bool find_version(const char *prefix, char name[32])
{
    char pattern[PATH_MAX + 32];
    glob_t found; /* owner: this call */
    bool any;

    snprintf(pattern, sizeof(pattern), "%s/lib/python3.*", prefix);
    any = glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0;
    if (any) {
        snprintf(name, 32, "%s", strrchr(found.gl_pathv[0], '/') + 1);
    }
    globfree(&found);
    return any;
}

/* Set base to the prefix of the Python that an environment was made with. */
static void find_base(const char *environment, char base[PATH_MAX])
{
    char line[PATH_MAX + 32], path[PATH_MAX + 32], home[PATH_MAX];
    FILE *file; /* owner: this call */

    base[0] = '\0';
    snprintf(path, sizeof(path), "%s/pyvenv.cfg", environment);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "home = %4095[^\n]", home) == 1 && to_parent(home)) {
            strcpy(base, home);
        }
    }
    if (file) {
        fclose(file);
    }
}

/* Set prefix and name of an installation outside a virtual environment. */
static bool split_installation(const char *file, char prefix[PATH_MAX], char name[32])
{
    const char *lib = strstr(file, "/lib/python3.");

    if (!lib || sscanf(lib + strlen("/lib/"), "%31[^/]", name) != 1) {
        return false;
    }
    snprintf(prefix, PATH_MAX, "%.*s", (int)(lib - file), file);
    return true;
}

void qv_locate_python(const void *address, QvPythonLocation *location)
{
    char file[PATH_MAX], prefix[PATH_MAX], base[PATH_MAX] = "", name[32];
    Dl_info info;

    strcpy(location->python, "python3");
    strcpy(location->libpython, "libpython3.so");
    if (!dladdr(address, &info) || !realpath(info.dli_fname, file)) {
        return;
    }
    if (find_environment(file, prefix)) {
        find_base(prefix, base);
        snprintf(location->python, sizeof(location->python), "%s/bin/python3", prefix);
        if (!find_version(prefix, name)) {
            return;
        }
    } else if (split_installation(file, prefix, name)) {
        strcpy(base, prefix);
        snprintf(location->python, sizeof(location->python), "%s/bin/%s", prefix, name);
    } else {
        return;
    }
    snprintf(location->libpython, sizeof(location->libpython), "%s/lib/lib%s.so.1.0", base, name);
    if (access(location->libpython, R_OK) != 0) {
        snprintf(location->libpython, sizeof(location->libpython), "lib%s.so.1.0", name);
    }
}
