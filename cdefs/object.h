/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One registered object as the bridge sees it; object.c has its memory. */
#ifndef QV_OBJECT_H
#define QV_OBJECT_H

#include "qemu.h"
#include "cells.h"

typedef struct QvPart {
    const char *name;           /* owner: Python */
    QvCell *cell;               /* owner: Python */
    bool is_ref_cell;
    void *live;                 /* owner: Python */
    size_t offset;
    size_t size;
} QvPart;

typedef struct QvRange {
    size_t offset;
    size_t size;
} QvRange;

typedef struct QvPointers {
    size_t slots;
    size_t elements;
    size_t present;
    size_t size;
    size_t count;
} QvPointers;

/* What few objects have. */
typedef struct QvExtras {
    QvRange *keeps;             /* owner: this object */
    size_t n_keeps;
    QvPointers *pointers;       /* owner: this object */
    size_t n_pointers;
    QvRange *subsections;       /* owner: this object */
    size_t n_subsections;
    uint64_t needed;            /* a bit for each of them */
    char *failure;              /* owner: this object; what a predicate could not tell QEMU */
    int failed;                 /* its errno */
    bool told;                  /* and the log has it */
    /* round.c */
    bool in_rounds;
    bool taken;                 /* staging has this round's snapshot, or: */
    int taken_ret;
    char *taken_why;            /* owner: this object */
} QvExtras;

struct QvObject {
    VMStateDescription *vmsd;   /* owner: Python */
    const QvImage *image;       /* owner: Python */
    void *handle;               /* owner: Python */
    void *trampoline;           /* owner: Python; or NULL */
    QvPart *parts;              /* owner: this object; by offset; or first */
    QvExtras *extras;           /* owner: this object; or NULL */
    QvCell **cells;             /* owner: this object; the distinct ones of parts */
    unsigned n_parts;
    unsigned n_cells;
    uint8_t hooks;              /* of QvHook */
    bool whole;                 /* see qv_object_set_whole() */
    bool mapped;                /* staging is memory of its own, given back at rest */
    bool dirty;                 /* and something is in it */
    bool registered;
    bool direct;                /* qv_save() or qv_load() runs, not a migration */
    bool saving;                /* what runs, or ran last, began with pre_save */
    int error;                  /* the failing hook's errno */
    QvPart first;               /* most have one: in the same cache lines */
    QEMUFile *in;               /* owner: qv_load(), only while it runs */
    const QIOChannelBuffer *channel;    /* what in reads from */
    char *why;                  /* owner: this object; the failing hook's sentence */
    /* What C walks: opaque points here. */
    unsigned char staging[] __attribute__((aligned(16)));
};

static inline QvObject *qv_object_of(void *opaque)
{
    return container_of(opaque, QvObject, staging[0]);
}

QvExtras *qv_object_extras(QvObject *object);
size_t qv_object_size(const QvObject *object);
/* What is not a native part of the staging struct, or all of it, as it is at rest. */
void qv_object_reset(QvObject *object, bool all);
/* Which subsections are needed because they are not as at rest. */
void qv_object_compare_subsections(QvObject *object);

#endif
