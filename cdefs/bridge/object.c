/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of objects. */
#include "bridge/object.h"
#include "bridge/migration_error.h"
#include <sys/mman.h>

/*
 * A staging struct of at least this size is a mapping, and its pages are released after each
 * use, so that only the object's state holds a large buffer.  For a smaller one, faulting the
 * pages in at each save would cost more than the copy.
 */
#define LARGE (4 * 1024 * 1024)
#define HUGE_PAGE (2 * 1024 * 1024)

static void reset_range(QvObject *object, size_t from, size_t to)
{
    const QvInitialImage *image = object->object_class->image;
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
    const QvObjectClass *object_class = object->object_class;
    size_t at = 0, i;

    for (i = 0; i < object_class->n_parts && !all; i++) {
        const QvPart *part = &object_class->parts[i];

        reset_range(object, at, part->offset);
        at = part->offset + part->size;
    }
    reset_range(object, at, object_class->size);
}

/* --------------------------------------------------------------- objects */

static size_t page_size(void)
{
    return sysconf(_SC_PAGESIZE);
}

/* Return the start of the mapping; the QvObject is at the end of its first page, staging follows. */
static char *mapping_of(QvObject *object)
{
    return (char *)object->staging - page_size();
}

static QvObject *map_object(size_t size)
{
    size_t page = page_size(), rounded = ROUND_UP(size, page);
    size_t length = page + HUGE_PAGE + rounded;
    char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *staging;

    if (memory == MAP_FAILED) {
        return NULL;
    }
    staging = (char *)QEMU_ALIGN_UP((uintptr_t)memory + page, HUGE_PAGE);
    munmap(memory, staging - page - memory);
    munmap(staging + rounded, memory + length - (staging + rounded));
    madvise(staging, rounded, MADV_HUGEPAGE);
    return (QvObject *)(staging - offsetof(QvObject, staging));
}

QvObject *qv_object_new(QvObjectClass *object_class, void *handle, int hooks)
{
    size_t size = object_class->size;
    bool mapped = size >= LARGE;
    QvObject *object = mapped ? map_object(size) : g_malloc0(sizeof(*object) + size);

    if (!object) {
        return NULL;
    }
    object->mapped = mapped;
    object->object_class = qv_object_class_use(object_class);
    object->hooks = hooks;
    if (hooks || object_class->n_preserved || object_class->n_pointers
        || object_class->n_subsections) {
        object->extras = g_new0(QvExtras, 1);
        object->extras->handle = handle;
    }
    if (object_class->n_parts > 1) {
        object->runtime = g_new0(QvRuntimePart, object_class->n_parts);
        object->cells = g_new0(QvCell *, object_class->n_parts);
    }
    return object;
}

void qv_object_free(QvObject *object)
{
    QvExtras *extras = object->extras;
    QvObjectClass *object_class = object->object_class;

    g_assert(!object->registered);
    if (extras) {
        qv_failure_clear(&extras->predicate_error);
        qv_failure_clear(&extras->needed_error);
        qv_failure_clear(&extras->prefetch_error);
        g_free(extras);
    }
    if (object_class->n_parts > 1) {
        g_free(object->runtime);
        g_free(object->cells);
    }
    if (object->mapped) {
        munmap(mapping_of(object), page_size() + ROUND_UP(object_class->size, page_size()));
    } else {
        g_free(object);
    }
    qv_object_class_free(object_class);
}

void qv_object_set_part(QvObject *object, size_t index, void *cell, void *memory)
{
    QvCell **cells = qv_cells(object);
    bool known = object->object_class->parts[index].is_ref_cell;
    unsigned i;

    for (i = 0; i < object->n_cells && !known; i++) {
        known = cells[i] == cell;
    }
    qv_runtime_parts(object)[index] = (QvRuntimePart){ cell, memory };
    if (!known) {
        cells[object->n_cells++] = cell;
    }
}

void qv_object_release_pages(QvObject *object)
{
    if (object->mapped && object->dirty) {
        madvise(object->staging, ROUND_UP(object->object_class->size, page_size()), MADV_DONTNEED);
        object->dirty = false;
    }
}

void *qv_object_staging(QvObject *object)
{
    return object->staging;
}

void qv_object_set_fast_path(QvObject *object, void *fast_path)
{
    object->extras->fast_path = fast_path;
}

void qv_object_set_undo(QvObject *object, void *undo)
{
    object->extras->undo = undo;
}

void qv_object_copy_parts(QvObject *object, int out)
{
    const QvObjectClass *object_class = object->object_class;
    QvRuntimePart *runtime = qv_runtime_parts(object);
    size_t i;

    for (i = 0; i < object_class->n_parts; i++) {
        void *staging = object->staging + object_class->parts[i].offset;

        memcpy(out ? staging : runtime[i].memory, out ? runtime[i].memory : staging,
               object_class->parts[i].size);
    }
}

int qv_object_undoes(QvObject *object)
{
    return object->registered && !object->inprocess;
}

void qv_object_set_left_out(QvObject *object, int left_out)
{
    object->extras->left_out = left_out;
}

void qv_object_begin(QvObject *object, bool saving)
{
    object->saving = saving;
    if (object->extras) {
        qv_failure_clear(&object->extras->predicate_error);
        object->extras->reported = false;
    }
}

void qv_object_fail(QvObject *object, int error, const char *errmsg)
{
    QvExtras *extras = object->extras;

    if (extras->predicate_error.ret) {
        return;
    }
    extras->predicate_error = (QvFailure){ error < 0 ? error : -EINVAL, g_strdup(errmsg) };
    if (!object->inprocess) {
        /* Report it now: QEMU may fail on what follows, and then never calls post_load. */
        qv_report_failure(object->saving, errmsg);
        extras->reported = true;
    }
}
