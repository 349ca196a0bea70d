/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of object classes. */
#include "bridge/object_class.h"

#define PAGE 4096

static bool is_zero(const unsigned char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

QvInitialImage *qv_initial_image_new(const void *bytes, size_t size)
{
    QvInitialImage *image = g_new0(QvInitialImage, 1);
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
            image->runs[image->n_runs++] = (QvRange){ at, n };
        }
    }
    return image;
}

void qv_initial_image_free(QvInitialImage *image)
{
    g_free(image->runs);
    g_free(image);
}

QvObjectClass *qv_object_class_new(VMStateDescription *description, const QvInitialImage *image,
                                   int fully_overwritten)
{
    QvObjectClass *object_class = g_new0(QvObjectClass, 1);

    object_class->uses = 1;
    object_class->vmsd = description;
    object_class->image = image;
    object_class->size = image->size;
    object_class->fully_overwritten = fully_overwritten;
    return object_class;
}

QvObjectClass *qv_object_class_use(QvObjectClass *object_class)
{
    g_atomic_int_inc(&object_class->uses);
    return object_class;
}

void qv_object_class_free(QvObjectClass *object_class)
{
    if (!g_atomic_int_dec_and_test(&object_class->uses)) {
        return;
    }
    g_free(object_class->parts);
    g_free(object_class->preserved);
    g_free(object_class->pointers);
    g_free(object_class->subsections);
    g_free(object_class);
}

static bool inside(const QvObjectClass *object_class, size_t offset, size_t size)
{
    return offset <= object_class->size && size <= object_class->size - offset;
}

int qv_object_class_add_part(QvObjectClass *object_class, const char *name, int is_ref_cell,
                             size_t offset, size_t size)
{
    QvPart *last = object_class->n_parts ? &object_class->parts[object_class->n_parts - 1] : NULL;

    if (!inside(object_class, offset, size) || (last && last->offset + last->size > offset)) {
        return -EINVAL;
    }
    object_class->parts = g_renew(QvPart, object_class->parts, object_class->n_parts + 1);
    object_class->parts[object_class->n_parts++] = (QvPart){
        .name = name,
        .offset = offset,
        .size = size,
        .is_ref_cell = is_ref_cell,
    };
    return 0;
}

int qv_object_class_preserve(QvObjectClass *object_class, size_t offset, size_t size)
{
    if (!inside(object_class, offset, size)) {
        return -EINVAL;
    }
    object_class->preserved =
        g_renew(QvRange, object_class->preserved, object_class->n_preserved + 1);
    object_class->preserved[object_class->n_preserved++] = (QvRange){ offset, size };
    return 0;
}

int qv_object_class_add_pointers(QvObjectClass *object_class, size_t slots, size_t elements,
                                 size_t present, size_t size, size_t count)
{
    size_t most = object_class->size;

    if (count > most || size > most || !inside(object_class, slots, count * sizeof(void *))
        || !inside(object_class, elements, count * size) || !inside(object_class, present, count)) {
        return -EINVAL;
    }
    object_class->pointers =
        g_renew(QvPointers, object_class->pointers, object_class->n_pointers + 1);
    object_class->pointers[object_class->n_pointers++] =
        (QvPointers){ slots, elements, present, size, count };
    return 0;
}

int qv_object_class_add_subsection(QvObjectClass *object_class, size_t offset, size_t size)
{
    if (!inside(object_class, offset, size) || object_class->n_subsections >= QV_MOST_SUBSECTIONS) {
        return -EINVAL;
    }
    object_class->subsections =
        g_renew(QvRange, object_class->subsections, object_class->n_subsections + 1);
    object_class->subsections[object_class->n_subsections++] = (QvRange){ offset, size };
    return 0;
}
