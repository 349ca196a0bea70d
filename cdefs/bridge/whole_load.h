/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The load of all registered objects that runs, by an incoming migration or from a snapshot, and
 * which of them it has restored.  load_end.h ends it.
 */
#ifndef QV_WHOLE_LOAD_H
#define QV_WHOLE_LOAD_H

#include "bridge/object.h"

/* A checkpoint of COLO loads the devices only, without the beginning and end of other loads. */
typedef enum QvLoadKind { QV_NO_LOAD, QV_WHOLE_LOAD, QV_CHECKPOINT } QvLoadKind;

/* The BQL guards it. */
typedef struct QvWholeLoad {
    QTAILQ_HEAD(, QvObject) objects; /* all registered objects; owner of each: Python */
    size_t n_objects;
    size_t n_told; /* the objects with a hook for the end of a load */
    QvLoadKind kind;
    bool of_migration; /* not of a snapshot */
    /* What qemu_loadvm_state() reads, until the load ends; owner: QEMU; or NULL. */
    QEMUFile *stream;
    size_t n_missing; /* the objects that a whole load has not restored so far */
} QvWholeLoad;

extern QvWholeLoad qv_whole_load;

/* Add an object that was registered, and remove it again. */
void qv_whole_load_add(QvObject *object);
void qv_whole_load_remove(QvObject *object);
/* Note that QEMU begins to load the VM. */
void qv_whole_load_begin(QEMUFile *stream);
/* Note that QEMU begins to load an object, and that the object is restored. */
void qv_whole_load_begin_object(void);
void qv_whole_load_restored(QvObject *object);

#endif
