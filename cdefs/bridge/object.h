/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The representation of an object in the bridge. */
#ifndef QV_OBJECT_H
#define QV_OBJECT_H

#include "bridge/object_class.h"
#include "qemu/queue.h"
#include "shared/cells.h"

/* The lock and the memory of one of an object's parts. */
typedef struct QvRuntimePart {
    QvCell *cell;          /* owner: Python */
    unsigned char *memory; /* owner: Python */
} QvRuntimePart;

/* A failure that cannot be reported yet: a negative errno and its message, or 0 and NULL. */
typedef struct QvFailure {
    int ret;
    char *errmsg; /* owner: this failure */
} QvFailure;

/* Clear the failure and return its errno; the caller then owns *errmsg. */
static inline int qv_failure_take(QvFailure *failure, char **errmsg)
{
    int ret = failure->ret;

    failure->ret = 0;
    if (ret) {
        *errmsg = g_steal_pointer(&failure->errmsg);
    }
    return ret;
}

static inline void qv_failure_clear(QvFailure *failure)
{
    failure->ret = 0;
    g_clear_pointer(&failure->errmsg, g_free);
}

/* What only objects that need more than a copy of native parts have. */
typedef struct QvExtras {
    void *handle;              /* owner: Python */
    void *fast_path;           /* owner: Python; or NULL */
    uint64_t needed;           /* a bit for each of its subsections */
    QvFailure predicate_error; /* predicates cannot report one themselves */
    bool reported;             /* predicate_error is in QEMU's log */
    bool left_out;             /* the answer of QV_HOOK_NEEDED */
    QvFailure needed_error;    /* the failure of QV_HOOK_NEEDED */
    void *undo;                /* owner: this object, until the undo log takes it; or NULL */
    bool batched;              /* part of snapshot batches; see snapshot_batch.c */
    bool prefetched;           /* staging has the batch's snapshot, unless prefetch_error is set */
    QvFailure prefetch_error;
} QvExtras;

/* Kept small, because a VM may have ten thousand, and each adds to a migration's downtime. */
struct QvObject {
    QvObjectClass *object_class; /* reference-counted */
    QvExtras *extras;            /* owner: this object; or NULL */
    union {
        QvRuntimePart only; /* if there is one part: it, with the only cell to lock */
        struct {
            QvRuntimePart *runtime; /* owner: this object; one for each part */
            QvCell **cells;         /* owner: this object; the distinct cells to lock */
        };
    };
    QTAILQ_ENTRY(QvObject) entry; /* in whole_load.c's list, while it is registered */
    uint32_t instance_id;         /* of its section, while it is registered */
    unsigned n_cells;
    uint16_t hooks;  /* a set of QvHook */
    bool mapped : 1; /* staging is a mapping, whose pages are released between uses */
    bool dirty : 1;  /* the mapping has pages that may not be zero */
    bool registered : 1;
    bool inprocess : 1; /* qv_save() or qv_load() runs, not a migration */
    bool saving : 1;    /* the last hook that began was pre_save */
    bool restored : 1;  /* by the load of the VM that runs, or is not part of it */
    bool missed : 1;    /* the last load of the VM had no section of it */
    bool waits : 1;     /* staging has what a load has read and not restored; see restore_batch.c */
    /* The memory that QEMU walks: its opaque. */
    unsigned char staging[] __attribute__((aligned(8)));
};

static inline QvObject *qv_object_of(void *opaque)
{
    return container_of(opaque, QvObject, staging[0]);
}

static inline QvRuntimePart *qv_runtime_parts(QvObject *object)
{
    return object->object_class->n_parts > 1 ? object->runtime : &object->only;
}

static inline QvCell **qv_cells(QvObject *object)
{
    return object->object_class->n_parts > 1 ? object->cells : &object->only.cell;
}

/*
 * Return a new object, or NULL if there is no memory for its staging struct.  The callbacks
 * get handle; hooks is a set of QvHook.
 */
QvObject *qv_object_new(QvObjectClass *object_class, void *handle, int hooks);
void qv_object_free(QvObject *object);
/* Set the lock (a QvCell) and the memory of a part of its class; both outlive the object. */
void qv_object_set_part(QvObject *object, size_t index, void *cell, void *memory);
void *qv_object_staging(QvObject *object);
/* Reset the staging struct to its initial content: everything, or all but the native parts. */
void qv_object_reset(QvObject *object, bool all);
/* Prepare for a save or a load of the object. */
void qv_object_begin(QvObject *object, bool saving);

#endif
