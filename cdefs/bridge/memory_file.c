/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files in memory, of which one for each direction is kept: QEMU clears 32 KiB for a new one and
 * looks up types by name for its channel, which takes longer than saving a small device.
 */
#include "bridge/memory_file.h"

/*
 * The number of bytes behind the stream: after each struct QEMU peeks for a subsection (a type
 * byte, a length byte and a name of up to 255 bytes), and a peek past the end would be an I/O
 * error.
 */
#define TAIL (2 + 255)
/* A channel with more is not kept, so that a large device takes memory only during its call. */
#define KEPT_CAPACITY (64 * 1024)

/* Owner: this file.  Accessed atomically, because a file is given back without the BQL. */
static QvMemoryFile *kept_to_write, *kept_to_read;

static void free_file(QvMemoryFile *file)
{
    if (file) {
        qv.qemu_fclose(file->f);
        qv.object_unref((void *)file->channel);
        g_free(file);
    }
}

static QvMemoryFile *take(QvMemoryFile **kept)
{
    return qatomic_xchg(kept, NULL);
}

/* Keep a file whose stream was read to the end, or written out. */
static void keep(QvMemoryFile **kept, QvMemoryFile *file)
{
    if (qv.qemu_file_get_error(file->f) || file->channel->capacity > KEPT_CAPACITY) {
        free_file(file);
        return;
    }
    file->channel->usage = 0;
    file->channel->offset = 0;
    file->probed = false;
    /* Calls nest, so that another one may have been kept meanwhile. */
    free_file(qatomic_xchg(kept, file));
}

static QvMemoryFile *new_file(size_t capacity)
{
    QvMemoryFile *file = g_new0(QvMemoryFile, 1);

    file->channel = qv.qio_channel_buffer_new(capacity);
    return file;
}

QvMemoryFile *qv_memory_file_to_write(void)
{
    QvMemoryFile *file = take(&kept_to_write);

    if (!file) {
        file = new_file(4096);
        file->f = qv.qemu_file_new_output((QIOChannel *)file->channel);
    }
    return file;
}

QvMemoryFile *qv_memory_file_to_read(const unsigned char *data, size_t size)
{
    QvMemoryFile *file = take(&kept_to_read);
    size_t capacity = size + TAIL + 1;
    QIOChannelBuffer *channel;

    if (!file) {
        file = new_file(MAX(capacity, 4096));
        file->f = qv.qemu_file_new_input((QIOChannel *)file->channel);
    }
    channel = file->channel;
    if (channel->capacity < capacity) {
        channel->data = g_realloc(channel->data, capacity);
        channel->capacity = capacity;
    }
    memcpy(channel->data, data, size);
    memset(channel->data + size, 0, TAIL + 1);
    channel->usage = size + TAIL;
    return file;
}

ssize_t qv_memory_file_left(QvMemoryFile *file)
{
    QIOChannelBuffer *channel = file->channel;
    uint8_t *next;
    size_t buffered;

    /*
     * To see whether there is more than the tail, the peek has to ask for more.  At the end that
     * would be an error, which the file would keep, so one more byte comes in once all that was
     * there is buffered.
     */
    if (!file->probed) {
        qv.qemu_peek_buffer(file->f, &next, TAIL, 0);
        channel->usage++;
        file->probed = true;
    }
    buffered = qv.qemu_peek_buffer(file->f, &next, TAIL + 1, 0);
    return (ssize_t)(buffered + channel->usage - channel->offset) - (TAIL + 1);
}

void qv_memory_file_end_write(QvMemoryFile *file)
{
    keep(&kept_to_write, file);
}

void qv_memory_file_end_read(QvMemoryFile *file)
{
    uint8_t tail[TAIL + 1];

    if (qv_memory_file_left(file) == 0 && file->channel->offset == file->channel->usage
        && qv.qemu_get_buffer(file->f, tail, sizeof(tail)) == sizeof(tail)) {
        keep(&kept_to_read, file);
    } else {
        free_file(file);
    }
}
