/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The differences between QEMU's releases: one macro for each thing that changed, switched by the
 * release that changed it.  docs/versions.md has a line for each; no other file compares versions.
 * Include qemu/osdep.h first.
 */
#ifndef QV_QEMU_VERSION_H
#define QV_QEMU_VERSION_H

/* A development tree or release candidate (micro 50 and above) counts as the next release. */
#if QEMU_VERSION_MICRO < 50
#define QV_VERSION (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR)
#elif QEMU_VERSION_MINOR >= 2
#define QV_VERSION ((QEMU_VERSION_MAJOR + 1) * 100)
#else
#define QV_VERSION (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR + 1)
#endif

#if QV_VERSION < 702
#error "qemu_vmstate needs QEMU 7.2 or later"
#endif

/* --- migration/vmstate.h */
#define QV_HAS_EARLY_SETUP (QV_VERSION >= 800)
/* The save function that sets an Error has a name of its own. */
#define QV_HAS_SAVE_WITH_ERR (QV_VERSION >= 802 && QV_VERSION < 1002)
/* vmstate_save_state_v(), which the tests call, sets an Error; it is gone in 11.1. */
#define QV_SAVE_V_SETS_ERROR (QV_VERSION >= 802)
#define QV_HAS_SAVE_V (QV_VERSION < 1101)
/* Hooks, vmstate_save_state() and vmstate_load_state() set an Error. */
#define QV_HAS_ERRP_HOOKS (QV_VERSION >= 1002)
#define QV_POST_SAVE_CAN_FAIL (QV_VERSION < 1101)
/* The JSON has an index for the last element too of an array whose elements differ. */
#define QV_DESCRIBES_LAST_INDEX (QV_VERSION < 1000)
/* QEMU's own VMStateInfos have load() and save(), and no get() and put(). */
#define QV_INFOS_SET_ERROR (QV_VERSION >= 1101)
#define QV_HAS_ERR_HINT (QV_VERSION < 1101)
#define QV_HAS_MULTIPLY_ELEMENTS (QV_VERSION < 1101)
/* The macros of arrays of pointers, which the tests use, take the pointer's type. */
#define QV_ARRAYS_OF_POINTER_TAKE_POINTER (QV_VERSION < 1101)
/* A load refuses an element of the stream where a pointer is NULL; later it is an assertion. */
#define QV_REFUSES_ELEMENT_FOR_NULL (QV_VERSION < 1101)

/* --- migration/register.h */
#define QV_LOAD_SETUP_SETS_ERROR (QV_VERSION >= 901)

/* --- migration/migration.h and migration/misc.h */
/* migrate_error_propagate() replaces migrate_set_error(), and frees the Error. */
#define QV_HAS_ERROR_PROPAGATE (QV_VERSION >= 1100)
/* migration_is_running() without a parameter; migration_is_idle() is gone in 9.2. */
#define QV_HAS_IS_RUNNING (QV_VERSION >= 900)
/* load_cleanup is called when the result of an incoming migration is set, not before. */
#define QV_RESULT_BEFORE_CLEANUP (QV_VERSION >= 902)
/* The error of an earlier migration or save fails the load of a snapshot. */
#define QV_STALE_ERROR_FAILS_LOAD (QV_VERSION >= 1000)

/* --- other headers */
/* error_vprintf() is no stub any more, but calls one, monitor_vprintf(). */
#define QV_REPORTS_TO_MONITOR (QV_VERSION >= 1100)
#define QV_HAS_CUR_IS_QMP (QV_VERSION < 1101)
#define QV_HAS_BQL_LOCK (QV_VERSION >= 900)
/* qapi/qmp/ and sysemu/ became qobject/ and system/. */
#define QV_HAS_SYSTEM_HEADERS (QV_VERSION >= 1000)

#endif
