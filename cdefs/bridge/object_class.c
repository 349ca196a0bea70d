/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See kind.h. */
#include "bridge/object_class.h"

#define PAGE 4096

static bool is_zero(const unsigned char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

QvImage *qv_image_new(const void *bytes, size_t size)
{
    QvImage *image = g_new0(QvImage, 1);
    size_t at, n;

    image->bytes = bytes;
    image->size = size;
    for (at = 0; at < size; at += n) {
        QvRange *last = image->n_runs ? &image->runs[image->n_runs - 1] : NULL;

        n = MIN(PAGE, size - at);
        if (is_zero(image->bytes + at, n)) {
            continue;
        }
        if (last && last->offset + last->size == at) {
            last->size += n;
        } else {
            image->runs = g_renew(QvRange, image->runs, image->n_runs + 1);
            image->runs[image->n_runs++] = (QvRange) { at, n };
        }
    }
    return image;
}

void qv_image_free(QvImage *image)
{
    g_free(image->runs);
    g_free(image);
}

QvKind *qv_kind_new(VMStateDescription *description, const QvImage *image, int whole)
{
    QvKind *kind = g_new0(QvKind, 1);

    kind->uses = 1;
    kind->vmsd = description;
    kind->image = image;
    kind->size = image->size;
    kind->whole = whole;
    return kind;
}

QvKind *qv_kind_use(QvKind *kind)
{
    g_atomic_int_inc(&kind->uses);
    return kind;
}

void qv_kind_free(QvKind *kind)
{
    if (!g_atomic_int_dec_and_test(&kind->uses)) {
        return;
    }
    g_free(kind->parts);
    g_free(kind->keeps);
    g_free(kind->pointers);
    g_free(kind->subsections);
    g_free(kind);
}

static bool inside(const QvKind *kind, size_t offset, size_t size)
{
    return offset <= kind->size && size <= kind->size - offset;
}

int qv_kind_add_part(QvKind *kind, const char *name, int is_ref_cell, size_t offset, size_t size)
{
    QvPart *last = kind->n_parts ? &kind->parts[kind->n_parts - 1] : NULL;

    if (!inside(kind, offset, size) || (last && last->offset + last->size > offset)) {
        return -EINVAL;
    }
    kind->parts = g_renew(QvPart, kind->parts, kind->n_parts + 1);
    kind->parts[kind->n_parts++] = (QvPart) {
        .name = name, .offset = offset, .size = size, .is_ref_cell = is_ref_cell,
    };
    return 0;
}

int qv_kind_keep(QvKind *kind, size_t offset, size_t size)
{
    if (!inside(kind, offset, size)) {
        return -EINVAL;
    }
    kind->keeps = g_renew(QvRange, kind->keeps, kind->n_keeps + 1);
    kind->keeps[kind->n_keeps++] = (QvRange) { offset, size };
    return 0;
}

int qv_kind_add_pointers(QvKind *kind, size_t slots, size_t elements, size_t present,
                         size_t size, size_t count)
{
    size_t most = kind->size;

    if (count > most || size > most || !inside(kind, slots, count * sizeof(void *))
        || !inside(kind, elements, count * size) || !inside(kind, present, count)) {
        return -EINVAL;
    }
    kind->pointers = g_renew(QvPointers, kind->pointers, kind->n_pointers + 1);
    kind->pointers[kind->n_pointers++] = (QvPointers) {
        slots, elements, present, size, count
    };
    return 0;
}

int qv_kind_add_subsection(QvKind *kind, size_t offset, size_t size)
{
    if (!inside(kind, offset, size) || kind->n_subsections >= QV_MOST_SUBSECTIONS) {
        return -EINVAL;
    }
    kind->subsections = g_renew(QvRange, kind->subsections, kind->n_subsections + 1);
    kind->subsections[kind->n_subsections++] = (QvRange) { offset, size };
    return 0;
}
