/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A packer: what saves and loads a struct as a whole.  QEMU walks a struct number by number, with
 * function calls for each; a packer has a step for each run of numbers of one width, of bytes, of
 * bools or of structs.  The bytes, the JSON and the failures are those of QEMU's walk.
 *
 * A struct has no packer, and QEMU walks it, if it has subsections, predicates, lists, pointers,
 * bitmaps, or structs without a packer.
 */
#ifndef QV_STRUCT_PACKER_H
#define QV_STRUCT_PACKER_H

#include "bridge/qemu.h"

/* The flags that say how many elements a field has. */
#define QV_ELEMENT_FLAGS \
    (VMS_ARRAY | VMS_VARRAY_UINT8 | VMS_VARRAY_UINT16 | VMS_VARRAY_UINT32 | VMS_VARRAY_INT32)

typedef enum QvStepKind {
    QV_NUMBERS, /* in the host's byte order in memory */
    QV_BOOLS,
    QV_BYTES,
    QV_UNUSED, /* zeros on the wire, nothing in memory */
    QV_STRUCTS,
} QvStepKind;

/* What a load requires of a number. */
typedef enum QvCheck {
    QV_ANY,
    QV_WITHIN,  /* the limits of the step */
    QV_EQUAL,   /* the number in memory, which stays */
    QV_AT_MOST, /* the number in memory, and not negative */
} QvCheck;

/* Items of one kind that follow one another. */
typedef struct QvStep {
    QvStepKind kind;
    QvCheck check;
    bool is_signed;
    uint8_t width;       /* of an item on the wire, and of one in memory; 0: of structs */
    uint8_t count_width; /* of the number in memory that counts; 0: there are n items */
    bool count_is_signed;
    size_t n;                       /* items; for each that is counted if there is a count */
    size_t offset;                  /* of the first item in the struct */
    size_t count_offset;            /* of the number that counts */
    size_t room;                    /* the most items that there is memory for */
    size_t stride;                  /* between items in memory */
    size_t ahead;                   /* bytes that are on the wire for certain from this step on */
    uint64_t low, high;             /* the limits */
    const struct QvPacker *element; /* owner: Python; of structs */
    const char *name;               /* owner: Python; of the field, for messages */
} QvStep;

/* What the JSON has of a field. */
typedef struct QvFieldText {
    const VMStateField *field; /* owner: Python */
    char *name;                /* owner: the packer */
    QvStep step;               /* of this field alone */
} QvFieldText;

/* What is always the same in the JSON of a field. */
typedef struct QvFieldJson {
    GString *start; /* owner: the packer; up to the name, or all */
    GString *type;  /* owner: the packer; NULL if start is all */
} QvFieldJson;

typedef struct QvStructJson {
    GString *start;      /* owner: the packer; what precedes the fields, or all if they are fixed */
    QvFieldJson *fields; /* owner: the packer; one for each text */
} QvStructJson;

/* What is always the same in the JSON; apart, because it is written when the packer is const. */
typedef struct QvPackerJson {
    QvStructJson *made; /* owner: the packer; NULL until it is needed; see struct_json.c */
} QvPackerJson;

struct QvPacker {
    const VMStateDescription *vmsd; /* owner: Python */
    /* The same without packed structs, for QEMU to walk. */
    VMStateDescription walked;
    VMStateField *walked_fields; /* owner: this packer */
    QvStep *steps;               /* owner: this packer */
    size_t n_steps;
    QvFieldText *texts; /* owner: this packer */
    size_t n_texts;
    QvPackerJson *json; /* owner: this packer */
    size_t name_length; /* of vmsd->name */
    bool fixed;         /* it has always wire bytes on the wire */
    size_t wire;
    /* It is nothing but one step of numbers or bytes that fills its memory. */
    bool flat;
};

/* The VMStateInfo of a field that is packed. */
typedef struct QvStructInfo {
    VMStateInfo info;       /* its name is qv_struct_name */
    const QvPacker *packer; /* owner: Python */
} QvStructInfo;

/* "struct", as QEMU's JSON has it for structs; the address tells a QvStructInfo. */
extern const char qv_struct_name[];
/* Return the packer of a field that is packed, or NULL. */
const QvPacker *qv_packer_of(const VMStateField *field);

/* Return the number of a step's items in the struct at pv. */
static inline size_t qv_step_items(const QvStep *step, const unsigned char *pv)
{
    const unsigned char *at = pv + step->count_offset;
    int64_t count;

    switch (step->count_width) {
    case 0:
        return step->n;
    case 1:
        count = ldub_p(at);
        break;
    case 2:
        count = lduw_he_p(at);
        break;
    default:
        count = step->count_is_signed ? (int64_t)ldl_he_p(at) : (int64_t)(uint32_t)ldl_he_p(at);
    }
    return count < 0 ? 0 : count * step->n;
}

/* Return the same, but no more than there is memory for. */
static inline size_t qv_step_items_with_room(const QvStep *step, const unsigned char *pv)
{
    return MIN(qv_step_items(step, pv), step->room);
}

/* Return the bytes on the wire of the struct at pv. */
size_t qv_packer_wire_size(const QvPacker *packer, const unsigned char *pv);
void qv_struct_json_free(const QvPacker *packer, QvStructJson *json);

#endif
