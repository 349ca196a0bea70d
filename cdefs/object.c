/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of registered objects, and what a staging struct holds at rest. */
#include "object.h"
#include <sys/mman.h>

/*
 * From here on a staging struct is mapped, and its pages are given back at rest,
 * so that a large buffer is held once, by the live state.  Below, taking the
 * pages anew for each save would cost more than the copy.
 */
#define LARGE (4 * 1024 * 1024)
#define PAGE 4096
#define HUGE_PAGE (2 * 1024 * 1024)

struct QvImage {
    const unsigned char *bytes; /* owner: Python */
    size_t size;
    QvRange *runs;              /* owner: this image; where bytes are not 0, by pages */
    size_t n_runs;
};

/* ---------------------------------------------------------------- images */

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

static void reset_range(QvObject *object, size_t from, size_t to)
{
    const QvImage *image = object->image;
    bool zero = object->mapped && !object->dirty;
    size_t i;

    for (i = 0; i < image->n_runs && from < to; i++) {
        QvRange *run = &image->runs[i];
        size_t start = MAX(from, run->offset), end = MIN(to, run->offset + run->size);

        if (start >= end) {
            continue;
        }
        if (!zero) {
            memset(object->staging + from, 0, start - from);
        }
        memcpy(object->staging + start, image->bytes + start, end - start);
        from = end;
    }
    if (from < to && !zero) {
        memset(object->staging + from, 0, to - from);
    }
}

void qv_object_reset(QvObject *object, bool all)
{
    size_t at = 0, i;

    for (i = 0; i < object->n_parts && !all; i++) {
        QvPart *part = &object->parts[i];

        reset_range(object, at, part->offset);
        at = part->offset + part->size;
    }
    reset_range(object, at, object->image->size);
}

/* --------------------------------------------------------------- objects */

/* The header lies at the end of a page of its own, the staging struct in the next ones. */
static char *mapping_of(QvObject *object)
{
    return (char *)object->staging - PAGE;
}

static QvObject *map_object(size_t size)
{
    size_t length = size + PAGE + HUGE_PAGE;
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *staging;

    if (memory == MAP_FAILED) {
        return NULL;
    }
    staging = (char *)QEMU_ALIGN_UP((uintptr_t)memory + PAGE, HUGE_PAGE);
    munmap(memory, staging - PAGE - memory);
    length = ROUND_UP(size, PAGE);
    munmap(staging + length, memory + size + PAGE + HUGE_PAGE - (staging + length));
    madvise(staging, length, MADV_HUGEPAGE);
    return (QvObject *)(staging - offsetof(QvObject, staging));
}

QvObject *qv_object_new(VMStateDescription *description, const QvImage *image, void *handle,
                        int hooks)
{
    size_t size = image->size;
    bool mapped = size >= LARGE;
    QvObject *object = mapped ? map_object(size) : g_malloc0(sizeof(*object) + size);

    if (!object) {
        return NULL;
    }
    object->mapped = mapped;
    object->vmsd = description;
    object->image = image;
    object->handle = handle;
    object->hooks = hooks;
    qv_set_hooks(description, mapped || (hooks & (QV_HOOK_POST_SAVE | QV_HOOK_PREDICATES)));
    return object;
}

void qv_object_free(QvObject *object)
{
    QvExtras *extras = object->extras;

    g_assert(!object->registered);
    if (extras) {
        g_free(extras->keeps);
        g_free(extras->pointers);
        g_free(extras->subsections);
        g_free(extras->failure);
        g_free(extras->taken_why);
        g_free(extras);
    }
    if (object->parts != &object->first) {
        g_free(object->parts);
    }
    if (object->cells != &object->first.cell) {
        g_free(object->cells);
    }
    g_free(object->why);
    if (object->mapped) {
        munmap(mapping_of(object), PAGE + ROUND_UP(object->image->size, PAGE));
    } else {
        g_free(object);
    }
}

void qv_object_rest(QvObject *object)
{
    if (object->mapped && object->dirty) {
        madvise(object->staging, ROUND_UP(object->image->size, PAGE), MADV_DONTNEED);
        object->dirty = false;
    }
}

size_t qv_object_size(const QvObject *object)
{
    return object->image->size;
}

void *qv_object_staging(QvObject *object)
{
    return object->staging;
}

void qv_object_set_trampoline(QvObject *object, void *trampoline)
{
    object->trampoline = trampoline;
}

void qv_object_set_whole(QvObject *object)
{
    object->whole = true;
}

static bool inside(QvObject *object, size_t offset, size_t size)
{
    return offset <= object->image->size && size <= object->image->size - offset;
}

int qv_object_add_part(QvObject *object, const char *name, void *cell, int is_ref_cell,
                       void *live, size_t offset, size_t size)
{
    QvPart *last = object->n_parts ? &object->parts[object->n_parts - 1] : NULL;
    bool known = is_ref_cell;
    unsigned i;

    if (!inside(object, offset, size) || (last && last->offset + last->size > offset)) {
        return -EINVAL;
    }
    for (i = 0; i < object->n_cells && !known; i++) {
        known = object->cells[i] == cell;
    }
    if (!known && object->n_parts == 0) {
        object->cells = &object->first.cell;
        object->n_cells = 1;
    } else if (!known) {
        QvCell **cells = g_new(QvCell *, object->n_cells + 1);

        for (i = 0; i < object->n_cells; i++) {
            cells[i] = object->cells[i];
        }
        cells[object->n_cells++] = cell;
        if (object->cells != &object->first.cell) {
            g_free(object->cells);
        }
        object->cells = cells;
    }
    if (object->n_parts == 0) {
        object->parts = &object->first;
    } else if (object->n_parts == 1) {
        object->parts = g_new(QvPart, 2);
        object->parts[0] = object->first;
    } else {
        object->parts = g_renew(QvPart, object->parts, object->n_parts + 1);
    }
    object->parts[object->n_parts++] = (QvPart) {
        .name = name, .cell = cell, .is_ref_cell = is_ref_cell,
        .live = live, .offset = offset, .size = size,
    };
    return 0;
}

void qv_object_copy_parts(QvObject *object, int out)
{
    size_t i;

    for (i = 0; i < object->n_parts; i++) {
        QvPart *part = &object->parts[i];
        void *staged = object->staging + part->offset;

        memcpy(out ? staged : part->live, out ? part->live : staged, part->size);
    }
}

int qv_object_undoes(QvObject *object)
{
    return object->registered && !object->direct;
}

QvExtras *qv_object_extras(QvObject *object)
{
    if (!object->extras) {
        object->extras = g_new0(QvExtras, 1);
    }
    return object->extras;
}

int qv_object_keep(QvObject *object, size_t offset, size_t size)
{
    QvExtras *extras = qv_object_extras(object);

    if (!inside(object, offset, size)) {
        return -EINVAL;
    }
    extras->keeps = g_renew(QvRange, extras->keeps, extras->n_keeps + 1);
    extras->keeps[extras->n_keeps++] = (QvRange) { offset, size };
    return 0;
}

int qv_object_add_pointers(QvObject *object, size_t slots, size_t elements, size_t present,
                           size_t size, size_t count)
{
    size_t most = object->image->size;
    QvExtras *extras = qv_object_extras(object);

    if (count > most || size > most || !inside(object, slots, count * sizeof(void *))
        || !inside(object, elements, count * size) || !inside(object, present, count)) {
        return -EINVAL;
    }
    extras->pointers = g_renew(QvPointers, extras->pointers, extras->n_pointers + 1);
    extras->pointers[extras->n_pointers++] = (QvPointers) {
        slots, elements, present, size, count
    };
    return 0;
}

#define MOST_SUBSECTIONS 64

int qv_object_add_subsection(QvObject *object, size_t offset, size_t size)
{
    QvExtras *extras = qv_object_extras(object);

    if (!inside(object, offset, size) || extras->n_subsections == MOST_SUBSECTIONS) {
        return -EINVAL;
    }
    extras->subsections = g_renew(QvRange, extras->subsections, extras->n_subsections + 1);
    extras->subsections[extras->n_subsections] = (QvRange) { offset, size };
    return extras->n_subsections++;
}

void qv_object_set_needed(QvObject *object, int number, int needed)
{
    QvExtras *extras = qv_object_extras(object);
    uint64_t bit = 1ull << number;

    extras->needed = needed ? extras->needed | bit : extras->needed & ~bit;
}

void qv_object_compare_subsections(QvObject *object)
{
    size_t i;

    for (i = 0; i < object->extras->n_subsections; i++) {
        QvRange *range = &object->extras->subsections[i];

        if (range->size) {
            qv_object_set_needed(object, i,
                                 memcmp(object->staging + range->offset,
                                        object->image->bytes + range->offset, range->size) != 0);
        }
    }
}

/* C asks a subsection's needed without saying which: each number has a function. */
#define EIGHT(X, tens) X(tens##0) X(tens##1) X(tens##2) X(tens##3) \
                       X(tens##4) X(tens##5) X(tens##6) X(tens##7)
#define ALL(X) EIGHT(X, 00) EIGHT(X, 01) EIGHT(X, 02) EIGHT(X, 03) \
               EIGHT(X, 04) EIGHT(X, 05) EIGHT(X, 06) EIGHT(X, 07)

#define NEEDED(octal)                                           \
    static bool needed_##octal(void *opaque)                    \
    {                                                           \
        return qv_object_of(opaque)->extras->needed >> octal & 1; \
    }
ALL(NEEDED)

QvNeeded *qv_needed_at(int number)
{
#define ENTRY(octal) needed_##octal,
    static QvNeeded *const all[MOST_SUBSECTIONS] = { ALL(ENTRY) };

    return number >= 0 && number < MOST_SUBSECTIONS ? all[number] : NULL;
}

void qv_object_fail(QvObject *object, int error, const char *why)
{
    QvExtras *extras = qv_object_extras(object);

    if (extras->failed) {
        return;
    }
    extras->failed = error < 0 ? error : -EINVAL;
    extras->failure = g_strdup(why);
    if (!object->direct) {
        /* At once: C may stumble over what follows and never come to post_load. */
        qv_tell(object->saving, why);
        extras->told = true;
    }
}
