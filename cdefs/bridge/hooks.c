/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See hooks.h. */
#include "bridge/hooks.h"
#include "bridge/inprocess.h"
#include "bridge/snapshot.h"
#include "bridge/snapshot_batch.h"
#include "bridge/subsections.h"
#include "bridge/undo_log.h"

/* The failure of a predicate, which had no way to say so. */
static int late_failure(QvObject *object, char **errmsg)
{
    return object->extras ? qv_failure_take(&object->extras->predicate, errmsg) : 0;
}

/* C finds the elements of pointer arrays, or NULL, while it walks; nobody else does. */
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

bool qv_section_needed(void *opaque)
{
    QvObject *object = qv_object_of(opaque);
    QvExtras *extras = object->extras;

    qv_failure_clear(&extras->unanswered);
    extras->left_out = false;
    extras->unanswered.ret =
        qv_object_call_python(object, QV_HOOK_NEEDED, 0, &extras->unanswered.errmsg);
    return extras->unanswered.ret || !extras->left_out;
}

int qv_pre_save(void *opaque, char **errmsg)
{
    QvObject *object = qv_object_of(opaque);
    int ret;

    /* Nothing but native parts: most objects, and all that are to be as quick as C's. */
    if (likely(!object->hooks && !object->extras)) {
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
    int ret = late_failure(object, errmsg);
    g_autofree char *second = NULL;
    int late = qv_object_call_python(object, QV_HOOK_POST_SAVE, 0, &second);

    if (ret == 0 && late) {
        ret = late;
        *errmsg = g_steal_pointer(&second);
    }
    qv_object_release_pages(object);
    return ret;
}

/* The staging struct as it is at rest, but for what is kept of the live state. */
static int keep_live(QvObject *object, char **errmsg)
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
    int ret;

    if (object->extras) {
        qv_snapshot_batch_discard(object);
    }
    if (!object->object_class->fully_overwritten) {
        qv_object_reset(object, true);
    }
    object->dirty = true;
    if (qv_object_undoes(object)) {
        qv_undo_begin_load();
    }
    qv_object_begin(object, false);
    if (likely(!object->hooks && !object->extras)) {
        return 0;
    }
    ret = qv_object_call_python(object, QV_HOOK_PRE_LOAD, 0, errmsg);
    if (ret == 0 && object->object_class->n_preserved) {
        ret = keep_live(object, errmsg);
    }
    set_pointers(object, true);
    return ret;
}

int qv_post_load(void *opaque, int version_id, char **errmsg)
{
    QvObject *object = qv_object_of(opaque);
    int ret = late_failure(object, errmsg);

    if (ret == 0 && object->inprocess) {
        ret = qv_check_all_read(object, errmsg);
    }
    set_pointers(object, false);
    if (ret == 0) {
        ret = qv_object_commit(object, version_id, errmsg);
    }
    if (!object->inprocess) {
        qv_object_release_pages(object);
    }
    return ret;
}
