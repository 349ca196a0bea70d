/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The C side of the benchmark; see reference_device.h.  Nothing else uses it. */
#include "bridge/bql.h"
#include "bench/reference_device.h"

/* ----------------------------------------------------------------- twins */

typedef struct TwinPart {
    pthread_mutex_t lock;
    size_t offset;
    size_t size;
    void *migrated; /* owner: the twin's copy; what the field points to */
} TwinPart;

struct QvTwin {
    VMStateDescription vmsd;
    VMStateField *fields; /* owner: this twin */
    size_t size;
    unsigned char *live; /* owner: this twin; guarded by the parts' locks */
    unsigned char *copy; /* owner: this twin, from a hook to the next only */
    size_t n_parts;
    TwinPart parts[];
};

static void twin_point(QvTwin *twin, unsigned char *copy)
{
    size_t i;

    twin->copy = copy;
    for (i = 0; i < twin->n_parts; i++) {
        twin->parts[i].migrated = copy ? copy + twin->parts[i].offset : NULL;
    }
}

static int twin_pre_save(void *opaque)
{
    QvTwin *twin = opaque;
    size_t i;

    twin_point(twin, g_malloc(twin->size));
    for (i = 0; i < twin->n_parts; i++) {
        TwinPart *part = &twin->parts[i];

        pthread_mutex_lock(&part->lock);
        memcpy(part->migrated, twin->live + part->offset, part->size);
        pthread_mutex_unlock(&part->lock);
    }
    return 0;
}

static int twin_post_save(void *opaque)
{
    QvTwin *twin = opaque;

    g_free(twin->copy);
    twin_point(twin, NULL);
    return 0;
}

static int twin_pre_load(void *opaque)
{
    QvTwin *twin = opaque;

    g_free(twin->copy); /* of a load that failed */
    twin_point(twin, g_malloc0(twin->size));
    return 0;
}

static int twin_post_load(void *opaque, int version_id)
{
    QvTwin *twin = opaque;
    size_t i;

    for (i = 0; i < twin->n_parts; i++) {
        TwinPart *part = &twin->parts[i];

        pthread_mutex_lock(&part->lock);
        memcpy(twin->live + part->offset, part->migrated, part->size);
        pthread_mutex_unlock(&part->lock);
    }
    return twin_post_save(twin);
}

QvTwin *qv_twin_new(const VMStateDescription *description, size_t n_parts, size_t size)
{
    QvTwin *twin = g_malloc0(sizeof(*twin) + n_parts * sizeof(twin->parts[0]));
    size_t i;

    twin->fields = g_new0(VMStateField, n_parts + 1);
    for (i = 0; i < n_parts; i++) {
        TwinPart *part = &twin->parts[i];

        part->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        part->offset = description->fields[i].offset;
        part->size = description->fields[i].size;
        /* VMSTATE_STRUCT_POINTER */
        twin->fields[i] = description->fields[i];
        twin->fields[i].flags |= VMS_POINTER;
        twin->fields[i].offset = (char *)&part->migrated - (char *)twin;
    }
    qv_end_of_list(&twin->fields[n_parts]);
    twin->vmsd = (VMStateDescription){
        .name = description->name,
        .version_id = description->version_id,
        .minimum_version_id = description->minimum_version_id,
        .pre_save = twin_pre_save,
        .post_save = twin_post_save,
        .pre_load = twin_pre_load,
        .post_load = twin_post_load,
        .fields = twin->fields,
    };
    twin->size = size;
    twin->live = g_malloc0(size);
    twin->n_parts = n_parts;
    return twin;
}

void qv_twin_free(QvTwin *twin)
{
    size_t i;

    for (i = 0; i < twin->n_parts; i++) {
        pthread_mutex_destroy(&twin->parts[i].lock);
    }
    g_free(twin->copy);
    g_free(twin->live);
    g_free(twin->fields);
    g_free(twin);
}

void *qv_twin_live(QvTwin *twin)
{
    return twin->live;
}

const VMStateDescription *qv_twin_description(QvTwin *twin)
{
    return &twin->vmsd;
}

static int register_bare(const VMStateDescription *vmsd, void *opaque, uint32_t instance_id)
{
    bool taken = qv_bql_enter();
    int ret = qv.vmstate_register_with_alias_id(NULL, instance_id, vmsd, opaque, -1, 0, NULL);

    qv_bql_leave(taken);
    return ret;
}

int qv_twins_register(QvTwin **twins, size_t count, uint32_t first, int any_id)
{
    size_t i;
    int ret = 0;

    for (i = 0; i < count && ret == 0; i++) {
        ret =
            register_bare(&twins[i]->vmsd, twins[i], any_id ? VMSTATE_INSTANCE_ID_ANY : first + i);
    }
    return ret;
}

void qv_twin_unregister(QvTwin *twin)
{
    bool taken = qv_bql_enter();

    qv.vmstate_unregister(NULL, &twin->vmsd, twin);
    qv_bql_leave(taken);
}

/* ------------------------------------------------------------ stop watch */

static int64_t now(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int64_t qv_timed_save(const VMStateDescription *vmsd, void *opaque, int count,
                      unsigned char *stream, size_t capacity)
{
    bool taken = qv_bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(0);
    QEMUFile *f = qv.qemu_file_new_output((QIOChannel *)channel);
    Error *err = NULL;
    int64_t ns;
    int i, ret = 0;

    channel->data = stream;
    channel->capacity = capacity;
    ns = now(CLOCK_THREAD_CPUTIME_ID);
    for (i = 0; i < count && ret == 0; i++) {
        ret = qv_save_state(f, vmsd, opaque, NULL, &err);
    }
    qv.qemu_fflush(f);
    ns = now(CLOCK_THREAD_CPUTIME_ID) - ns;
    if (ret == 0) {
        ret = qv.qemu_file_get_error(f);
    }
    /* The room was enough, or it would have been freed to get more. */
    g_assert(channel->data == stream && channel->usage + QV_TIMED_TAIL <= capacity);
    memset(stream + channel->usage, 0, QV_TIMED_TAIL);
    channel->data = NULL;
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    qv.error_free(err);
    qv_bql_leave(taken);
    return ret < 0 ? ret : ns;
}

int64_t qv_timed_load(const VMStateDescription *vmsd, void *opaque, int version_id, int count,
                      unsigned char *stream, size_t size)
{
    bool taken = qv_bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(0);
    QEMUFile *f;
    Error *err = NULL;
    int64_t ns;
    int i, ret = 0;

    channel->data = stream;
    channel->capacity = channel->usage = size + QV_TIMED_TAIL;
    f = qv.qemu_file_new_input((QIOChannel *)channel);
    ns = now(CLOCK_THREAD_CPUTIME_ID);
    for (i = 0; i < count && ret == 0; i++) {
        ret = qv_load_state(f, vmsd, opaque, version_id, &err);
    }
    ns = now(CLOCK_THREAD_CPUTIME_ID) - ns;
    channel->data = NULL;
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    qv.error_free(err);
    qv_bql_leave(taken);
    return ret < 0 ? ret : ns;
}

/* ----------------------------------------------------------------- marks */

static struct {
    int64_t saved;
    int64_t loaded;
} marks[QV_MARKS];

static VMStateField no_fields[1];

static int mark_pre_save(void *opaque)
{
    marks[(uintptr_t)opaque - 1].saved = now(CLOCK_MONOTONIC);
    return 0;
}

static int mark_post_load(void *opaque, int version_id)
{
    marks[(uintptr_t)opaque - 1].loaded = now(CLOCK_MONOTONIC);
    return 0;
}

static const VMStateDescription mark_vmsd = {
    .name = "qemu-vmstate-mark",
    .pre_save = mark_pre_save,
    .post_load = mark_post_load,
    .fields = no_fields,
};

int qv_mark_register(int mark)
{
    qv_end_of_list(&no_fields[0]);
    return register_bare(&mark_vmsd, (void *)(uintptr_t)(mark + 1), mark);
}

void qv_mark_unregister(int mark)
{
    bool taken = qv_bql_enter();

    qv.vmstate_unregister(NULL, &mark_vmsd, (void *)(uintptr_t)(mark + 1));
    qv_bql_leave(taken);
}

int64_t qv_mark_saved(int mark)
{
    return marks[mark].saved;
}

int64_t qv_mark_loaded(int mark)
{
    return marks[mark].loaded;
}
