/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One registered object as the bridge sees it; object.c has its memory. */
#ifndef QV_OBJECT_H
#define QV_OBJECT_H

#include "bridge/object_class.h"
#include "shared/cells.h"

/* Where an object has a part of its kind's. */
typedef struct QvRuntimePart {
    QvCell *cell;          /* owner: Python */
    unsigned char *memory; /* owner: Python */
} QvRuntimePart;

/* A negative errno and its sentence, until whoever can tell QEMU takes them; or 0 and NULL. */
typedef struct QvFailure {
    int ret;
    char *errmsg; /* owner: this failure */
} QvFailure;

/* Its errno; *errmsg: its sentence, now the caller's. */
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

/* What an object has that C alone neither fills nor commits. */
typedef struct QvExtras {
    void *handle;        /* owner: Python */
    void *fast_path;     /* owner: Python; or NULL */
    uint64_t needed;     /* a bit for each of its subsections */
    QvFailure predicate; /* what a predicate could not tell QEMU */
    bool reported;       /* and the log has it */
    bool left_out;       /* what QV_HOOK_NEEDED answered, or: */
    QvFailure unanswered;
    void *undo; /* owner: this object, until the undo log takes it; or NULL */
    /* snapshot_batch.c */
    bool batched;
    bool prefetched; /* staging has this batch's snapshot, or: */
    QvFailure prefetch_error;
} QvExtras;

/* There may be ten thousand, and each is in the way of a migration's downtime. */
struct QvObject {
    QvObjectClass *object_class; /* owner: who uses it last */
    QvExtras *extras;            /* owner: this object; or NULL */
    union {
        QvRuntimePart only; /* of the only part; its cell is the only one to lock */
        struct {
            QvRuntimePart *runtime; /* owner: this object; one for each part */
            QvCell **cells;         /* owner: this object; the distinct ones to lock */
        };
    };
    unsigned n_cells;
    uint8_t hooks;   /* of QvHook */
    bool mapped : 1; /* staging is memory of its own, given back at rest */
    bool dirty : 1;  /* and something is in it */
    bool registered : 1;
    bool inprocess : 1; /* qv_save() or qv_load() runs, not a migration */
    bool saving : 1;    /* what runs, or ran last, began with pre_save */
    /* What C walks: opaque points here. */
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

/* What is not a native part of the staging struct, or all of it, as it is at rest. */
void qv_object_reset(QvObject *object, bool all);
/* A save or a load of the object begins. */
void qv_object_begin(QvObject *object, bool saving);

#endif
