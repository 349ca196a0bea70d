/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hooks that QEMU calls, with the signatures of its version. */
#include "bridge/hooks.h"
#include "bridge/inprocess.h"
#include "bridge/migration_error.h"
#include "bridge/qemu_internal.h"

/* Report a failure for a hook that has no Error to set, and return ret.  Free errmsg. */
static int finish(void *opaque, const char *hook, bool saving, int ret, char *errmsg)
{
    if (likely(ret == 0)) {
        return 0;
    }
    if (qv_hook_failed(opaque, ret, errmsg)) {
        g_autofree char *message = g_strdup_printf("%s failed: %s", hook, errmsg);

        qv_report_failure(saving, message);
    }
    g_free(errmsg);
    return ret;
}

#if QV_POST_SAVE_CAN_FAIL
static int hook_post_save(void *opaque)
{
    char *errmsg = NULL;
    int ret = qv_post_save(opaque, &errmsg);

    return finish(opaque, "post_save", true, ret, errmsg);
}
#else
/* QEMU takes no failure from this hook, but looks for errors of the stream. */
static void hook_post_save(void *opaque)
{
    char *errmsg = NULL;
    int ret = qv_post_save(opaque, &errmsg);

    ret = finish(opaque, "post_save", true, ret, errmsg);
    if (ret < 0 && !qv_object_of(opaque)->inprocess) {
        qv_internal.migration_file_set_error(ret, NULL);
    }
}
#endif

#if QV_HAS_ERRP_HOOKS
/*
 * Report a failure through errp, and return whether there is none.  Free errmsg.
 * log_as: the hook's name for the log, where QEMU does not log the Error itself: it logs that of
 * a save, but not that of a load after which it goes on.  Else NULL.
 */
static bool finish_errp(void *opaque, const char *log_as, int ret, char *errmsg, Error **errp)
{
    if (likely(ret == 0)) {
        return true;
    }
    if (qv_hook_failed(opaque, ret, errmsg) && log_as) {
        qv.error_report("%s failed: %s", log_as, errmsg);
    }
    qv.error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", errmsg);
    g_free(errmsg);
    return false;
}

static bool hook_pre_save(void *opaque, Error **errp)
{
    char *errmsg = NULL;
    int ret = qv_pre_save(opaque, &errmsg);

    return finish_errp(opaque, NULL, ret, errmsg, errp);
}

static bool hook_pre_load(void *opaque, Error **errp)
{
    char *errmsg = NULL;
    int ret = qv_pre_load(opaque, &errmsg);

    return finish_errp(opaque, "pre_load", ret, errmsg, errp);
}

static bool hook_post_load(void *opaque, int version_id, Error **errp)
{
    char *errmsg = NULL;
    int ret = qv_post_load(opaque, version_id, &errmsg);

    return finish_errp(opaque, "post_load", ret, errmsg, errp);
}
#else
static int hook_pre_save(void *opaque)
{
    char *errmsg = NULL;
    int ret = qv_pre_save(opaque, &errmsg);

    return finish(opaque, "pre_save", true, ret, errmsg);
}

static int hook_pre_load(void *opaque)
{
    char *errmsg = NULL;
    int ret = qv_pre_load(opaque, &errmsg);

    return finish(opaque, "pre_load", false, ret, errmsg);
}

static int hook_post_load(void *opaque, int version_id)
{
    char *errmsg = NULL;
    int ret = qv_post_load(opaque, version_id, &errmsg);

    return finish(opaque, "post_load", false, ret, errmsg);
}
#endif

void qv_object_set_hooks(QvObject *object)
{
    VMStateDescription *vmsd = object->object_class->vmsd;

    if (object->mapped || (object->hooks & (QV_HOOK_POST_SAVE | QV_HOOK_PREDICATES))) {
        vmsd->post_save = hook_post_save;
    }
#if QV_HAS_ERRP_HOOKS
    vmsd->pre_save_errp = hook_pre_save;
    vmsd->pre_load_errp = hook_pre_load;
    vmsd->post_load_errp = hook_post_load;
#else
    vmsd->pre_save = hook_pre_save;
    vmsd->pre_load = hook_pre_load;
    vmsd->post_load = hook_post_load;
#endif
}
