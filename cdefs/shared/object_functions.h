/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bridge's functions for one object, which it gives to _state: a call through them needs no
 * cffi objects, of which each would take longer than QEMU does for a small device.
 *
 * A function that can fail returns 0, or a negative errno and a message in *errmsg, which the
 * caller releases with free_text().
 */
#ifndef QV_OBJECT_FUNCTIONS_H
#define QV_OBJECT_FUNCTIONS_H

#include <stdint.h>

#include "shared/cell.h"

/* As in decl/bridge.h. */
typedef struct QvObject QvObject;
typedef struct QvObjectClass QvObjectClass;

/* The bytes of a save. */
typedef struct QvSaved {
    const unsigned char *data; /* owner: file */
    size_t size;
    void *file;   /* owner: the caller, release with end_save() */
    char *vmdesc; /* owner: the caller, release with free_text(); NULL if it was not asked for */
} QvSaved;

typedef struct QvObjectFunctions {
    /* Return NULL if there is no memory for the staging struct.  hooks: a set of QvHook, whose
     * callbacks get handle. */
    QvObject *(*create)(QvObjectClass *object_class, void *handle, int hooks);
    /* Set the lock (a QvCell) and the memory of a part of its class; both outlive the object. */
    void (*set_part)(QvObject *object, size_t index, void *cell, void *memory);
    void *(*staging)(QvObject *object);
    void (*destroy)(QvObject *object);
    /* Save, and if describe is set, have the JSON too.  Waits for the BQL. */
    int (*save)(QvObject *object, bool describe, QvSaved *saved, char **errmsg);
    void (*end_save)(QvSaved *saved);
    /* Load exactly size bytes of a version, or of the newest if it is negative.  Waits for the BQL. */
    int (*load)(QvObject *object, const unsigned char *data, size_t size, int version_id,
                char **errmsg);
    /* Add it to the savevm list, or remove it.  They wait for the BQL. */
    int (*add)(QvObject *object, uint32_t instance_id, char **errmsg);
    int (*remove)(QvObject *object, char **errmsg);
    void (*free_text)(void *text);
} QvObjectFunctions;

#endif
