/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the objects of a description that have the same parts share; object_class.c has its memory. */
#ifndef QV_KIND_H
#define QV_KIND_H

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
    QvRange *runs; /* owner: this image; where bytes are not 0, by pages */
    size_t n_runs;
};

struct QvObjectClass {
    gint uses;                   /* Python's, and each object's: whoever is last frees it */
    VMStateDescription *vmsd;    /* owner: Python */
    const QvInitialImage *image; /* owner: Python */
    size_t size;                 /* of a staging struct */
    bool fully_overwritten;      /* see qv_object_class_new() */
    QvPart *parts;               /* owner: this kind; by offset */
    size_t n_parts;
    QvRange *preserved; /* owner: this kind */
    size_t n_preserved;
    QvPointers *pointers; /* owner: this kind */
    size_t n_pointers;
    QvRange *subsections; /* owner: this kind */
    size_t n_subsections;
};

/* One bit of QvExtras.needed for each. */
#define QV_MOST_SUBSECTIONS 64

QvObjectClass *qv_object_class_use(QvObjectClass *object_class);

#endif
