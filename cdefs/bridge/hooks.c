/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See hooks.h. */
#include "bridge/hooks.h"
#include "bridge/inprocess.h"
#include "bridge/snapshot.h"
#include "bridge/snapshot_batch.h"
#include "bridge/subsections.h"
#include "bridge/undo_log.h"

/* The failure of a predicate, which had no way to say so. */
static int late_failure(QvObject *object, char **why)
{
    return object->extras ? qv_failure_take(&object->extras->predicate, why) : 0;
}

/* C finds the elements of pointer arrays, or NULL, while it walks; nobody else does. */
static void set_pointers(QvObject *object, bool walking)
{
    size_t i, j;

    for (i = 0; i < object->kind->n_pointers; i++) {
        const QvPointers *array = &object->kind->pointers[i];
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
    extras->unanswered.ret = qv_object_call_python(object, QV_HOOK_NEEDED, 0, &extras->unanswered.why);
    return extras->unanswered.ret || !extras->left_out;
}

int qv_take_snapshot(void *opaque, char **why)
{
    QvObject *object = qv_object_of(opaque);
    int ret;

    /* Nothing but native parts: most objects, and all that are to be as quick as C's. */
    if (likely(!object->hooks && !object->extras)) {
        ret = qv_object_fill_native(object, why);
    } else if (!qv_round_took(object, &ret, why)) {
        ret = qv_object_fill(object, false, NULL, why);
    }
    if (object->extras) {
        qv_object_compare_subsections(object);
        set_pointers(object, true);
    }
    if (ret < 0) {
        qv_object_rest(object);
    }
    return ret;
}

int qv_after_save(void *opaque, char **why)
{
    QvObject *object = qv_object_of(opaque);
    int ret = late_failure(object, why);
    g_autofree char *second = NULL;
    int late = qv_object_call_python(object, QV_HOOK_POST_SAVE, 0, &second);

    if (ret == 0 && late) {
        ret = late;
        *why = g_steal_pointer(&second);
    }
    qv_object_rest(object);
    return ret;
}

/* The staging struct as it is at rest, but for what is kept of the live state. */
static int keep_live(QvObject *object, char **why)
{
    g_autofree unsigned char *live = NULL;
    size_t i;
    int ret = qv_object_fill(object, true, NULL, why);

    if (ret < 0) {
        return ret;
    }
    live = g_memdup2(object->staging, object->kind->size);
    qv_object_reset(object, true);
    for (i = 0; i < object->kind->n_keeps; i++) {
        const QvRange *range = &object->kind->keeps[i];

        memcpy(object->staging + range->offset, live + range->offset, range->size);
    }
    return 0;
}

int qv_begin_load(void *opaque, char **why)
{
    QvObject *object = qv_object_of(opaque);
    int ret;

    if (object->extras) {
        qv_round_forget(object);
    }
    if (!object->kind->whole) {
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
    ret = qv_object_call_python(object, QV_HOOK_PRE_LOAD, 0, why);
    if (ret == 0 && object->kind->n_keeps) {
        ret = keep_live(object, why);
    }
    set_pointers(object, true);
    return ret;
}

int qv_commit_staging(void *opaque, int version_id, char **why)
{
    QvObject *object = qv_object_of(opaque);
    int ret = late_failure(object, why);

    if (ret == 0 && object->direct) {
        ret = qv_check_all_read(object, why);
    }
    set_pointers(object, false);
    if (ret == 0) {
        ret = qv_object_commit(object, version_id, why);
    }
    if (!object->direct) {
        qv_object_rest(object);
    }
    return ret;
}
