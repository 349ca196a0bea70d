/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the objects with one description and the same parts share. */
#ifndef QV_OBJECT_CLASS_H
#define QV_OBJECT_CLASS_H

#include "bridge/qemu.h"

typedef struct QvPart {
    const char *name; /* owner: Python */
    size_t offset;
    size_t size;
    bool is_ref_cell;
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

struct QvInitialImage {
    const unsigned char *bytes; /* owner: Python */
    size_t size;
    QvRange *runs; /* owner: this image; the runs of pages that are not all zero */
    size_t n_runs;
};

struct QvObjectClass {
    gint uses;                   /* references: Python's and each object's */
    VMStateDescription *vmsd;    /* owner: Python */
    const QvInitialImage *image; /* owner: Python */
    size_t size;                 /* of a staging struct */
    bool fully_overwritten;      /* see qv_object_class_new() */
    QvPart *parts;               /* owner: this class; sorted by offset */
    size_t n_parts;
    QvRange *preserved; /* owner: this class */
    size_t n_preserved;
    QvPointers *pointers; /* owner: this class */
    size_t n_pointers;
    QvRange *subsections; /* owner: this class */
    size_t n_subsections;
};

/* The limit is the number of bits in QvExtras.needed. */
#define QV_MOST_SUBSECTIONS 64

QvObjectClass *qv_object_class_use(QvObjectClass *object_class);

#endif
