/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bridge/hooks.h"
#include "bridge/inprocess.h"
#include "bridge/registration.h"

static QvObject *create(QvObjectClass *object_class, void *handle, int hooks)
{
    QvObject *object = qv_object_new(object_class, handle, hooks);

    if (object) {
        qv_object_set_hooks(object);
    }
    return object;
}

const void *qv_object_functions(void)
{
    static const QvObjectFunctions functions = {
        .create = create,
        .set_part = qv_object_set_part,
        .staging = qv_object_staging,
        .destroy = qv_object_free,
        .save = qv_save,
        .end_save = qv_end_save,
        .load = qv_load,
        .add = qv_register,
        .remove = qv_unregister,
        .free_text = qv_free,
    };

    return &functions;
}
