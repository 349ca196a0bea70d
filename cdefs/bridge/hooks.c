/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hooks, independent of the QEMU version. */
#include "bridge/hooks.h"
#include "bridge/inprocess.h"
#include "bridge/restore_batch.h"
#include "bridge/snapshot.h"
#include "bridge/snapshot_batch.h"
#include "bridge/subsections.h"
#include "bridge/whole_load.h"

/* Return the error of a predicate that failed during QEMU's walk and could not report it. */
static int take_predicate_error(QvObject *object, char **errmsg)
{
    return object->extras ? qv_failure_take(&object->extras->predicate_error, errmsg) : 0;
}

/* Set the slots of pointer arrays to their elements or NULL for QEMU's walk; at other times to NULL. */
static void set_pointers(QvObject *object, bool walking)
{
    size_t i, j;

    for (i = 0; i < object->object_class->n_pointers; i++) {
        const QvPointers *array = &object->object_class->pointers[i];
        void **slots = (void **)(object->staging + array->slots);

        for (j = 0; j < array->count; j++) {
            bool present = walking && object->staging[array->present + j];

            slots[j] = present ? object->staging + array->elements + j * array->size : NULL;
        }
    }
}

/* Refuse to load an array with a NULL pointer if QEMU would end for a stream with an element there. */
static int check_pointers(const QvObject *object, char **errmsg)
{
    size_t i;

    for (i = 0; i < object->object_class->n_pointers && !qv_refuses_element_for_null(); i++) {
        const QvPointers *array = &object->object_class->pointers[i];
        const unsigned char *present = object->staging + array->present;
        const unsigned char *missing = memchr(present, 0, array->count);

        if (missing) {
            *errmsg = g_strdup_printf("%s: element %td of an array of pointers is None, and this "
                                      "QEMU ends by an assertion if the stream has that element; "
                                      "load into an object that has all elements",
                                      object->object_class->vmsd->name, missing - present);
            return -EINVAL;
        }
    }
    return 0;
}

bool qv_section_needed(void *opaque)
{
    QvObject *object = qv_object_of(opaque);
    QvExtras *extras = object->extras;

    qv_failure_clear(&extras->needed_error);
    extras->left_out = false;
    extras->needed_error.ret =
        qv_object_call_python(object, QV_HOOK_NEEDED, 0, &extras->needed_error.errmsg);
    return extras->needed_error.ret || !extras->left_out;
}

/*
 * Begin to read into the caches what the save of the next object needs.  QEMU saves objects in the
 * order of their registration, and ten thousand are more than the caches hold.
 */
static void prefetch_next(const QvObject *object)
{
    const QvObject *next = object->registered ? QTAILQ_NEXT(object, entry) : NULL;

    if (next) {
        __builtin_prefetch(next->only.cell);
        __builtin_prefetch(next->only.memory);
        __builtin_prefetch(next->staging, 1);
        __builtin_prefetch(QTAILQ_NEXT(next, entry));
    }
}

int qv_pre_save(void *opaque, char **errmsg)
{
    QvObject *object = qv_object_of(opaque);
    int ret;

    /* The common case, native parts only, has to be as fast as a device in C. */
    if (likely(!object->hooks && !object->extras)) {
        prefetch_next(object);
        ret = qv_object_fill_native(object, errmsg);
    } else if (!qv_snapshot_batch_prefetched(object, &ret, errmsg)) {
        ret = qv_object_fill(object, false, NULL, errmsg);
    }
    if (object->extras) {
        qv_object_compare_subsections(object);
        set_pointers(object, true);
    }
    if (ret < 0) {
        qv_object_release_pages(object);
    }
    return ret;
}

int qv_post_save(void *opaque, char **errmsg)
{
    QvObject *object = qv_object_of(opaque);
    int ret = take_predicate_error(object, errmsg);
    g_autofree char *second = NULL;
    int late = qv_object_call_python(object, QV_HOOK_POST_SAVE, 0, &second);

    if (ret == 0 && late) {
        ret = late;
        *errmsg = g_steal_pointer(&second);
    }
    qv_object_release_pages(object);
    return ret;
}

/* Set the staging struct to its initial content, and the preserved ranges to the object's state. */
static int preserve_state(QvObject *object, char **errmsg)
{
    g_autofree unsigned char *live = NULL;
    size_t i;
    int ret = qv_object_fill(object, true, NULL, errmsg);

    if (ret < 0) {
        return ret;
    }
    live = g_memdup2(object->staging, object->object_class->size);
    qv_object_reset(object, true);
    for (i = 0; i < object->object_class->n_preserved; i++) {
        const QvRange *range = &object->object_class->preserved[i];

        memcpy(object->staging + range->offset, live + range->offset, range->size);
    }
    return 0;
}

int qv_pre_load(void *opaque, char **errmsg)
{
    QvObject *object = qv_object_of(opaque);
    int ret = 0;

    if (object->extras) {
        qv_snapshot_batch_discard(object);
    }
    if (!object->object_class->fully_overwritten) {
        qv_object_reset(object, true);
    }
    object->dirty = true;
    if (qv_object_undoes(object)) {
        qv_whole_load_begin_object();
        ret = qv_restore_batch_begin(object, errmsg);
    }
    qv_object_begin(object, false);
    if (likely(!object->hooks && !object->extras)) {
        return ret;
    }
    if (ret == 0) {
        ret = qv_object_call_python(object, QV_HOOK_PRE_LOAD, 0, errmsg);
    }
    if (ret == 0 && object->object_class->n_preserved) {
        ret = preserve_state(object, errmsg);
    }
    set_pointers(object, true);
    return ret ? ret : check_pointers(object, errmsg);
}

int qv_post_load(void *opaque, int version_id, char **errmsg)
{
    QvObject *object = qv_object_of(opaque);
    int ret = take_predicate_error(object, errmsg);

    if (ret == 0 && object->inprocess) {
        ret = qv_check_all_read(object, errmsg);
    }
    set_pointers(object, false);
    if (ret == 0) {
        ret = qv_object_undoes(object) ? qv_restore_batch_commit(object, version_id, errmsg)
                                       : qv_object_commit(object, version_id, NULL, errmsg);
    }
    if (!object->inprocess) {
        qv_object_release_pages(object);
    }
    return ret;
}

int qv_load_nothing(QvObject *object, char **errmsg)
{
    int ret;

    if (object->object_class->fully_overwritten) { /* then qv_pre_load() does not */
        qv_object_reset(object, true);
    }
    ret = qv_pre_load(object->staging, errmsg);
    set_pointers(object, false);
    return ret ? ret
               : qv_post_load(object->staging, object->object_class->vmsd->version_id, errmsg);
}
