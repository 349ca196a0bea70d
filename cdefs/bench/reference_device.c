/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The _bench extension; see reference_device.h. */
#include "bridge/bridge_functions.h"
#include "bridge/qemu_version.h"
#include "bench/reference_device.h"

/* The bridge is called through pointers, because it is in another shared object, _native. */
static const QvBridge *bridge;

void qv_bench_bind(const void *bridge_functions)
{
    bridge = bridge_functions;
}

/* ----------------------------------------------------- reference devices */

typedef struct ReferencePart {
    pthread_mutex_t lock;
    size_t offset;
    size_t size;
    void *migrated; /* owner: the device's copy; the field points to it */
} ReferencePart;

struct QvReferenceDevice {
    VMStateDescription vmsd;
    VMStateField *fields; /* owner: this device */
    size_t size;
    unsigned char *state; /* owner: this device; guarded by the parts' locks */
    unsigned char *copy;  /* owner: this device; exists from one hook to the next */
    size_t n_parts;
    ReferencePart parts[];
};

static void show_copy(QvReferenceDevice *device, unsigned char *copy)
{
    size_t i;

    device->copy = copy;
    for (i = 0; i < device->n_parts; i++) {
        device->parts[i].migrated = copy ? copy + device->parts[i].offset : NULL;
    }
}

static int pre_save(void *opaque)
{
    QvReferenceDevice *device = opaque;
    size_t i;

    show_copy(device, g_malloc(device->size));
    for (i = 0; i < device->n_parts; i++) {
        ReferencePart *part = &device->parts[i];

        pthread_mutex_lock(&part->lock);
        memcpy(part->migrated, device->state + part->offset, part->size);
        pthread_mutex_unlock(&part->lock);
    }
    return 0;
}

static void drop_copy(QvReferenceDevice *device)
{
    g_free(device->copy);
    show_copy(device, NULL);
}

#if QV_POST_SAVE_CAN_FAIL
static int post_save(void *opaque)
{
    drop_copy(opaque);
    return 0;
}
#else
static void post_save(void *opaque)
{
    drop_copy(opaque);
}
#endif

static int pre_load(void *opaque)
{
    QvReferenceDevice *device = opaque;

    g_free(device->copy); /* a failed load has left it */
    show_copy(device, g_malloc0(device->size));
    return 0;
}

static int post_load(void *opaque, int version_id)
{
    QvReferenceDevice *device = opaque;
    size_t i;

    for (i = 0; i < device->n_parts; i++) {
        ReferencePart *part = &device->parts[i];

        pthread_mutex_lock(&part->lock);
        memcpy(device->state + part->offset, part->migrated, part->size);
        pthread_mutex_unlock(&part->lock);
    }
    drop_copy(device);
    return 0;
}

QvReferenceDevice *qv_reference_device_new(const VMStateDescription *description, size_t n_parts,
                                           size_t size)
{
    QvReferenceDevice *device = g_malloc0(sizeof(*device) + n_parts * sizeof(device->parts[0]));
    size_t i;

    device->fields = g_new0(VMStateField, n_parts + 1);
    for (i = 0; i < n_parts; i++) {
        ReferencePart *part = &device->parts[i];

        part->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
        part->offset = description->fields[i].offset;
        part->size = description->fields[i].size;
        /* VMSTATE_STRUCT_POINTER */
        device->fields[i] = description->fields[i];
        device->fields[i].flags |= VMS_POINTER;
        device->fields[i].offset = (char *)&part->migrated - (char *)device;
    }
    device->fields[n_parts] = (VMStateField)VMSTATE_END_OF_LIST();
    device->vmsd = (VMStateDescription){
        .name = description->name,
        .version_id = description->version_id,
        .minimum_version_id = description->minimum_version_id,
        .pre_save = pre_save,
        .post_save = post_save,
        .pre_load = pre_load,
        .post_load = post_load,
        .fields = device->fields,
    };
    device->size = size;
    device->state = g_malloc0(size);
    device->n_parts = n_parts;
    return device;
}

void qv_reference_device_free(QvReferenceDevice *device)
{
    size_t i;

    for (i = 0; i < device->n_parts; i++) {
        pthread_mutex_destroy(&device->parts[i].lock);
    }
    g_free(device->copy);
    g_free(device->state);
    g_free(device->fields);
    g_free(device);
}

void *qv_reference_device_state(QvReferenceDevice *device)
{
    return device->state;
}

const VMStateDescription *qv_reference_device_description(QvReferenceDevice *device)
{
    return &device->vmsd;
}

static int register_vmsd(const VMStateDescription *vmsd, void *opaque, uint32_t instance_id)
{
    bool entered = bridge->bql_enter();
    int ret =
        bridge->qemu->vmstate_register_with_alias_id(NULL, instance_id, vmsd, opaque, -1, 0, NULL);

    bridge->bql_leave(entered);
    return ret;
}

int qv_reference_devices_register(QvReferenceDevice **devices, size_t count, uint32_t first,
                                  int any_id)
{
    size_t i;
    int ret = 0;

    for (i = 0; i < count && ret == 0; i++) {
        ret = register_vmsd(&devices[i]->vmsd, devices[i],
                            any_id ? VMSTATE_INSTANCE_ID_ANY : first + i);
    }
    return ret;
}

void qv_reference_device_unregister(QvReferenceDevice *device)
{
    bool entered = bridge->bql_enter();

    bridge->qemu->vmstate_unregister(NULL, &device->vmsd, device);
    bridge->bql_leave(entered);
}

/* ----------------------------------------------------- timed saves and loads */

static int64_t now(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int64_t qv_timed_save(const VMStateDescription *vmsd, void *opaque, int count,
                      unsigned char *stream, size_t capacity)
{
    bool entered = bridge->bql_enter();
    QIOChannelBuffer *channel = bridge->qemu->qio_channel_buffer_new(0);
    QEMUFile *f = bridge->qemu->qemu_file_new_output((QIOChannel *)channel);
    Error *err = NULL;
    int64_t ns;
    int i, ret = 0;

    channel->data = stream;
    channel->capacity = capacity;
    ns = now(CLOCK_THREAD_CPUTIME_ID);
    for (i = 0; i < count && ret == 0; i++) {
        ret = bridge->save_state(f, vmsd, opaque, NULL, &err);
    }
    bridge->qemu->qemu_fflush(f);
    ns = now(CLOCK_THREAD_CPUTIME_ID) - ns;
    if (ret == 0) {
        ret = bridge->qemu->qemu_file_get_error(f);
    }
    /* The channel would have freed and replaced a buffer that was too small. */
    g_assert(channel->data == stream && channel->usage + QV_TIMED_TAIL <= capacity);
    memset(stream + channel->usage, 0, QV_TIMED_TAIL);
    channel->data = NULL;
    bridge->qemu->qemu_fclose(f);
    bridge->qemu->object_unref((void *)channel);
    bridge->qemu->error_free(err);
    bridge->bql_leave(entered);
    return ret < 0 ? ret : ns;
}

int64_t qv_timed_load(const VMStateDescription *vmsd, void *opaque, int version_id, int count,
                      unsigned char *stream, size_t size)
{
    bool entered = bridge->bql_enter();
    QIOChannelBuffer *channel = bridge->qemu->qio_channel_buffer_new(0);
    QEMUFile *f;
    Error *err = NULL;
    int64_t ns;
    int i, ret = 0;

    channel->data = stream;
    channel->capacity = channel->usage = size + QV_TIMED_TAIL;
    f = bridge->qemu->qemu_file_new_input((QIOChannel *)channel);
    ns = now(CLOCK_THREAD_CPUTIME_ID);
    for (i = 0; i < count && ret == 0; i++) {
        ret = bridge->load_state(f, vmsd, opaque, version_id, &err);
    }
    ns = now(CLOCK_THREAD_CPUTIME_ID) - ns;
    channel->data = NULL;
    bridge->qemu->qemu_fclose(f);
    bridge->qemu->object_unref((void *)channel);
    bridge->qemu->error_free(err);
    bridge->bql_leave(entered);
    return ret < 0 ? ret : ns;
}

/* ----------------------------------------------------------------- marks */

static struct {
    int64_t saved;
    int64_t loaded;
} marks[QV_MARKS];

static const VMStateField no_fields[] = { VMSTATE_END_OF_LIST() };

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
    return register_vmsd(&mark_vmsd, (void *)(uintptr_t)(mark + 1), mark);
}

void qv_mark_unregister(int mark)
{
    bool entered = bridge->bql_enter();

    bridge->qemu->vmstate_unregister(NULL, &mark_vmsd, (void *)(uintptr_t)(mark + 1));
    bridge->bql_leave(entered);
}

int64_t qv_mark_saved(int mark)
{
    return marks[mark].saved;
}

int64_t qv_mark_loaded(int mark)
{
    return marks[mark].loaded;
}
