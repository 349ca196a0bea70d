/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See whole_load.h. */
#include "bridge/whole_load.h"
#include "bridge/undo_log.h"

QvWholeLoad qv_whole_load = { .objects = QTAILQ_HEAD_INITIALIZER(qv_whole_load.objects) };

static bool is_told(QvObject *object)
{
    return object->hooks & (QV_HOOK_LOAD_COMPLETE | QV_HOOK_LOAD_ROLLED_BACK);
}

void qv_whole_load_add(QvObject *object)
{
    QTAILQ_INSERT_TAIL(&qv_whole_load.objects, object, entry);
    qv_whole_load.n_objects++;
    qv_whole_load.n_told += is_told(object);
    /* A load that runs has nothing to do with it. */
    object->restored = true;
}

void qv_whole_load_remove(QvObject *object)
{
    QTAILQ_REMOVE(&qv_whole_load.objects, object, entry);
    qv_whole_load.n_objects--;
    qv_whole_load.n_told -= is_told(object);
    qv_whole_load.n_missing -= !object->restored;
}

static void begin(QvLoadKind kind)
{
    QvObject *object;

    qv_whole_load.kind = kind;
    /* An incoming migration is loaded in a coroutine, a snapshot never. */
    qv_whole_load.of_migration =
        qv_expects_incoming() && (kind == QV_CHECKPOINT || qv_in_coroutine());
    qv_whole_load.n_missing = qv_whole_load.n_objects;
    QTAILQ_FOREACH(object, &qv_whole_load.objects, entry)
    {
        object->restored = object->missed = false;
    }
}

void qv_whole_load_begin(QEMUFile *stream)
{
    qv_whole_load.stream = stream;
    begin(QV_WHOLE_LOAD);
}

void qv_whole_load_begin_object(void)
{
    qv_undo_release();
    if (qv_whole_load.kind == QV_NO_LOAD) {
        begin(QV_CHECKPOINT);
    }
}

void qv_whole_load_restored(QvObject *object)
{
    qv_whole_load.n_missing -= !object->restored;
    object->restored = true;
}
