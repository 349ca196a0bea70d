/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saving and loading one object without a migration. */
#include "bridge/inprocess.h"
#include "bridge/bql.h"
#include "bridge/memory_file.h"
#include "bridge/migration_error.h"
#include "bridge/snapshot.h"

/*
 * One call of qv_save() or qv_load().  Calls nest, because a snapshot may save another object.
 * Guarded by the BQL.
 */
typedef struct InprocessCall {
    struct InprocessCall *outer; /* owner: the outer call */
    QvObject *object;            /* owner: Python */
    QvMemoryFile *in;            /* owner: qv_load(); or NULL */
    GString *reported;           /* owner: this call; what QEMU has reported, or NULL */
    GString **outer_reported;    /* owner: the outer call; its qv_reported */
    unsigned char *waiting;      /* owner: this call; what object->waits is about; or NULL */
    int error;                   /* the failing hook's errno */
    char *errmsg;                /* owner: this call; the failing hook's message */
} InprocessCall;

static InprocessCall *innermost_call;

static InprocessCall *inprocess_call_of(QvObject *object)
{
    g_assert(innermost_call && innermost_call->object == object);
    return innermost_call;
}

int qv_check_all_read(QvObject *object, char **errmsg)
{
    InprocessCall *load = inprocess_call_of(object);
    ssize_t left = qv_memory_file_left(load->in);

    if (left == 0) {
        return 0;
    }
    *errmsg = g_strdup_printf("%s: the stream %s the last field", object->object_class->vmsd->name,
                              left > 0 ? "goes on after" : "ends before");
    return left > 0 ? -E2BIG : -ENODATA;
}

bool qv_hook_failed(void *opaque, int ret, const char *errmsg)
{
    QvObject *object = qv_object_of(opaque);

    if (object->inprocess) {
        InprocessCall *call = inprocess_call_of(object);

        g_free(call->errmsg);
        call->errmsg = g_strdup(errmsg);
        call->error = ret;
    }
    return !object->inprocess && !(object->extras && object->extras->reported);
}

/* Put the most specific message into *errmsg: a hook's own, what QEMU reported, QEMU's Error. */
static int failure(InprocessCall *call, Error *err, int ret, char **errmsg)
{
    ret = ret < 0 ? ret : -EINVAL;
    err = qv_reason_of(err);
    if (call->errmsg) {
        *errmsg = g_steal_pointer(&call->errmsg);
        ret = call->error;
    } else if (qv_refusal) {
        *errmsg = g_steal_pointer(&qv_refusal);
        ret = -EINVAL;
    } else if (call->reported && call->reported->len) {
        /* In 10.2 the Error has the place and error_report() the reason. */
        g_auto(GStrv) lines = g_strsplit(g_strstrip(call->reported->str), "\n", -1);
        g_autofree char *reported = g_strjoinv("; ", lines);

        *errmsg = err ? g_strdup_printf("%s: %s", qv.error_get_pretty(err), reported)
                      : g_steal_pointer(&reported);
    } else if (err) {
        *errmsg = g_strdup(qv.error_get_pretty(err));
    } else {
        *errmsg = g_strdup(strerror(-ret));
    }
    if (err) {
        qv.error_free(err);
    }
    return ret;
}

static void begin_inprocess(InprocessCall *call, QvObject *object)
{
    *call =
        (InprocessCall){ .outer = innermost_call, .object = object, .outer_reported = qv_reported };
    innermost_call = call;
    object->inprocess = true;
    /* A load of the VM has read this object's section, and goes on after this call. */
    if (object->waits) {
        call->waiting = g_memdup2(object->staging, object->object_class->size);
        object->waits = false;
    }
    qv_reported = &call->reported;
}

static void end_inprocess(InprocessCall *call)
{
    QvObject *object = call->object;

    object->inprocess = false;
    if (call->waiting) {
        memcpy(object->staging, call->waiting, object->object_class->size);
        object->waits = true;
        g_free(call->waiting);
    }
    innermost_call = call->outer;
    g_clear_pointer(&qv_refusal, g_free);
    g_clear_pointer(&qv_walk_error, qv.error_free);
    if (call->reported) {
        g_string_free(call->reported, true);
    }
    qv_reported = call->outer_reported;
    g_free(call->errmsg);
}

void qv_end_save(QvSaved *saved)
{
    qv_memory_file_end_write(saved->file);
    g_free(saved->vmdesc);
}

int qv_save(QvObject *object, bool describe, QvSaved *saved, char **errmsg)
{
    bool taken = qv_bql_enter();
    QvMemoryFile *file = qv_memory_file_to_write();
    JSONWriter *json = describe ? qv_vmdesc_begin() : NULL;
    InprocessCall call;
    Error *err = NULL;
    int ret;

    begin_inprocess(&call, object);
    ret = qv_save_state(file->f, object->object_class->vmsd, object->staging, json, &err);
    qv.qemu_fflush(file->f);
    if (ret == 0) {
        ret = call.error; /* of a post_save() whose failure QEMU does not take */
    }
    if (ret == 0) {
        ret = qv.qemu_file_get_error(file->f);
    }
    if (ret) {
        ret = failure(&call, err, ret, errmsg);
    }
    end_inprocess(&call);
    *saved = (QvSaved){ file->channel->data, file->channel->usage, file,
                        json ? qv_vmdesc_end(json) : NULL };
    if (ret) {
        qv_end_save(saved);
    }
    qv_bql_leave(taken);
    return ret;
}

int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id, char **errmsg)
{
    bool taken = qv_bql_enter();
    const VMStateDescription *vmsd = object->object_class->vmsd;
    QvMemoryFile *file = qv_memory_file_to_read(data, size);
    InprocessCall call;
    Error *err = NULL;
    int ret;

    begin_inprocess(&call, object);
    call.in = file;
    ret = qv_load_state(file->f, vmsd, object->staging,
                        version_id < 0 ? vmsd->version_id : version_id, &err);
    if (ret != 0) {
        /* QEMU read into the tail: the error is that the stream is too short. */
        bool ended = !call.errmsg && qv_memory_file_left(file) < 0;

        ret = failure(&call, err, ret, errmsg);
        ret = ended ? -ENODATA : ret;
    } else {
        ret = qv_object_call_python(object, QV_HOOK_LOAD_COMPLETE, true, errmsg);
    }
    end_inprocess(&call);
    qv_memory_file_end_read(file);
    if (ret == 0) {
        qv_object_release_pages(object);
    }
    qv_bql_leave(taken);
    return ret;
}
