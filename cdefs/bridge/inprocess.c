/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saving and loading one object without a migration. */
#include "bridge/inprocess.h"
#include "bridge/bql.h"
#include "bridge/migration_error.h"
#include "bridge/snapshot.h"

/*
 * The number of bytes that qv_load() puts behind the stream: after each struct QEMU peeks for
 * a subsection (a type byte, a length byte and a name of up to 255 bytes), and a peek past the
 * end would be an I/O error.
 */
#define STREAM_TAIL (2 + 255)

/* Return how many bytes are left of stream and tail; valid after a failure too. */
static size_t left_over(QEMUFile *f, const QIOChannelBuffer *channel)
{
    uint8_t *next;
    size_t buffered = qv.qemu_peek_buffer(f, &next, STREAM_TAIL + 1, 0);

    return buffered + (channel->usage - channel->offset);
}

/*
 * One call of qv_save() or qv_load().  Calls nest, because a snapshot may save another object.
 * Guarded by the BQL.
 */
typedef struct InprocessCall {
    struct InprocessCall *outer;     /* owner: the outer call */
    QvObject *object;                /* owner: Python */
    QEMUFile *in;                    /* owner: qv_load(); or NULL */
    const QIOChannelBuffer *channel; /* the channel that in reads from */
    GString *reported;               /* owner: the outer call; its qv_reported */
    unsigned char *waiting;          /* owner: this call; what object->waits is about; or NULL */
    int error;                       /* the failing hook's errno */
    char *errmsg;                    /* owner: this call; the failing hook's message */
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
    size_t left = left_over(load->in, load->channel);

    if (left == STREAM_TAIL) {
        return 0;
    }
    *errmsg = g_strdup_printf("%s: the stream %s the last field", object->object_class->vmsd->name,
                              left > STREAM_TAIL ? "goes on after" : "ends before");
    return left > STREAM_TAIL ? -E2BIG : -ENODATA;
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
    if (qv_walk_error) { /* says more than QEMU's Error about the field that it is in */
        qv.error_free(err);
        err = g_steal_pointer(&qv_walk_error);
    }
    if (call->errmsg) {
        *errmsg = g_steal_pointer(&call->errmsg);
        ret = call->error;
    } else if (qv_refusal) {
        *errmsg = g_steal_pointer(&qv_refusal);
        ret = -EINVAL;
    } else if (qv_reported && qv_reported->len) {
        /* In 10.2 the Error has the place and error_report() the reason. */
        g_auto(GStrv) lines = g_strsplit(g_strstrip(qv_reported->str), "\n", -1);
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
    *call = (InprocessCall){ .outer = innermost_call, .object = object, .reported = qv_reported };
    innermost_call = call;
    object->inprocess = true;
    /* A load of the VM has read this object's section, and goes on after this call. */
    if (object->waits) {
        call->waiting = g_memdup2(object->staging, object->object_class->size);
        object->waits = false;
    }
    qv_reported = g_string_new(NULL);
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
    g_string_free(qv_reported, true);
    qv_reported = call->reported;
    g_free(call->errmsg);
}

int qv_save(QvObject *object, QvBytes *out, char **vmdesc, char **errmsg)
{
    bool taken = qv_bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(4096);
    QEMUFile *f = qv.qemu_file_new_output((QIOChannel *)channel);
    JSONWriter *json = NULL;
    InprocessCall call;
    Error *err = NULL;
    int ret;

    begin_inprocess(&call, object);
    if (vmdesc) {
        json = qv_vmdesc_begin();
    }
    ret = qv_save_state(f, object->object_class->vmsd, object->staging, json, &err);
    qv.qemu_fflush(f);
    if (ret == 0) {
        ret = call.error; /* of a post_save() whose failure QEMU does not take */
    }
    if (ret == 0) {
        ret = qv.qemu_file_get_error(f);
    }
    if (ret == 0) {
        out->data = channel->data;
        out->size = channel->usage;
        channel->data = NULL;
        channel->usage = 0;
    } else {
        ret = failure(&call, err, ret, errmsg);
    }
    end_inprocess(&call);
    if (json) {
        char *text = qv_vmdesc_end(json);

        if (ret == 0) {
            *vmdesc = text;
        } else {
            g_free(text);
        }
    }
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    qv_bql_leave(taken);
    return ret;
}

int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id, char **errmsg)
{
    bool taken = qv_bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(size + STREAM_TAIL);
    QEMUFile *f;
    InprocessCall call;
    Error *err = NULL;
    int ret;

    memcpy(channel->data, data, size);
    memset(channel->data + size, 0, STREAM_TAIL);
    channel->usage = size + STREAM_TAIL;
    f = qv.qemu_file_new_input((QIOChannel *)channel);
    begin_inprocess(&call, object);
    call.in = f;
    call.channel = channel;
    ret = qv_load_state(f, object->object_class->vmsd, object->staging, version_id, &err);
    if (ret != 0) {
        /* QEMU read into the tail: the error is that the stream is too short. */
        bool ended = !call.errmsg && left_over(f, channel) < STREAM_TAIL;

        ret = failure(&call, err, ret, errmsg);
        ret = ended ? -ENODATA : ret;
    } else {
        ret = qv_object_call_python(object, QV_HOOK_LOAD_COMPLETE, true, errmsg);
    }
    end_inprocess(&call);
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    qv_bql_leave(taken);
    return ret;
}
