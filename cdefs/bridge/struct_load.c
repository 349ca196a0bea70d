/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading structs as a whole.
 *
 * A stream that ends early, or has a value that is refused, is not judged here: QEMU walks a copy of
 * it, so that the message, the errno and the point of failure are QEMU's own.
 */
#include "bridge/struct_load.h"
#include "bridge/byte_order.h"
#include "bridge/migration_error.h"
#include "bridge/struct_save.h"

/* At most so much is peeked at a time.  QEMU's buffer has 32 KiB, and peeking it all would move it. */
#define WINDOW (16 * 1024)
/* From this size on, bytes are read without a window. */
#define LARGE WINDOW

/* What the next byte of a stream is if a subsection follows a struct: migration/savevm.h. */
#define SUBSECTION 0x05

/*
 * The result of loading a part is 0, a negative errno that is reported already, or one of these: QEMU
 * has to walk; the stream ends where QEMU looks for a subsection.
 */
#define WALK 1
#define ENDS 2

/* What was peeked of a stream; valid until the next call of a function of the file. */
typedef struct Window {
    QEMUFile *f;
    unsigned char *bytes; /* owner: f */
    size_t size;
    size_t used;
    size_t before; /* the bytes of the struct that are behind f's position */
} Window;

static void skip_used(Window *window)
{
    if (window->used) {
        qv.qemu_file_skip(window->f, window->used);
        window->before += window->used;
    }
    window->size = window->used = 0;
}

/*
 * Let the window have at least n bytes, which QEMU's walk would read too.  False if the stream ends
 * before; the window then has the rest of it.
 */
static bool need(Window *window, size_t n)
{
    if (likely(window->size - window->used >= n)) {
        return true;
    }
    skip_used(window);
    window->size = qv.qemu_peek_buffer(window->f, &window->bytes, n, 0);
    if (window->size >= n) {
        return true;
    }
    if (window->size) {
        /* At the end of the stream QEMU has moved the bytes and returns where they were before. */
        window->size = qv.qemu_peek_buffer(window->f, &window->bytes, window->size, 0);
    }
    return false;
}

static const unsigned char *take(Window *window, size_t n)
{
    const unsigned char *bytes = window->bytes + window->used;

    window->used += n;
    return bytes;
}

/* ------------------------------------------------------------------------ numbers */

static uint64_t number_at(const QvStep *step, const unsigned char *at)
{
    switch (step->width) {
    case 1:
        return step->is_signed ? (uint64_t)(int64_t)ldsb_p(at) : ldub_p(at);
    case 2:
        return step->is_signed ? (uint64_t)(int64_t)ldsw_he_p(at) : lduw_he_p(at);
    case 4:
        return step->is_signed ? (uint64_t)(int64_t)(int32_t)ldl_he_p(at) : (uint32_t)ldl_he_p(at);
    default:
        return ldq_he_p(at);
    }
}

static bool is_within(const QvStep *step, uint64_t value)
{
    return step->is_signed
               ? (int64_t)value >= (int64_t)step->low && (int64_t)value <= (int64_t)step->high
               : value >= step->low && value <= step->high;
}

/* Store a number if the step accepts it. */
static bool load_checked(const QvStep *step, unsigned char *to, const unsigned char *wire)
{
    unsigned char host[8];
    uint64_t value, present = number_at(step, to);

    qv_copy_big_endian(step->width, host, wire, 1);
    value = number_at(step, host);
    if (step->check == QV_EQUAL) {
        return value == present;
    }
    if (step->check == QV_AT_MOST ? (int64_t)value < 0 || (int64_t)value > (int64_t)present
                                  : !is_within(step, value)) {
        return false;
    }
    memcpy(to, host, step->width);
    return true;
}

static int load_numbers(Window *window, const QvStep *step, unsigned char *to, size_t n)
{
    while (n) {
        size_t now = MIN(n, WINDOW / step->width), i;

        if (!need(window, now * step->width)) {
            return WALK;
        }
        if (step->check == QV_ANY) {
            qv_copy_big_endian(step->width, to, take(window, now * step->width), now);
        }
        for (i = 0; i < now && step->check != QV_ANY; i++) {
            if (!load_checked(step, to + i * step->width, take(window, step->width))) {
                return WALK;
            }
        }
        to += now * step->width;
        n -= now;
    }
    return 0;
}

static int load_bools(Window *window, unsigned char *to, size_t n)
{
    while (n) {
        size_t now = MIN(n, WINDOW), i;
        const unsigned char *wire;

        if (!need(window, now)) {
            return WALK;
        }
        wire = take(window, now);
        for (i = 0; i < now; i++) {
            to[i] = wire[i] != 0;
        }
        to += now;
        n -= now;
    }
    return 0;
}

static int load_bytes(Window *window, unsigned char *to, size_t n)
{
    size_t done = MIN(n, window->size - window->used), read;

    if (n < LARGE) {
        if (!need(window, n)) {
            return WALK;
        }
        memcpy(to, take(window, n), n);
        return 0;
    }
    if (done) {
        memcpy(to, take(window, done), done);
    }
    skip_used(window);
    read = qv.qemu_get_buffer(window->f, to + done, n - done);
    window->before += read;
    return read == n - done ? 0 : WALK;
}

static int skip_bytes(Window *window, size_t n)
{
    while (n) {
        size_t now = MIN(n, WINDOW);

        if (!need(window, now)) {
            return WALK;
        }
        take(window, now);
        n -= now;
    }
    return 0;
}

/* ------------------------------------------------------------------------ structs */

/*
 * Do what vmstate_subsection_load() does for a struct that has none: look whether the stream has one
 * all the same.
 */
static int check_end(Window *window, const QvPacker *packer)
{
    const unsigned char *next;
    size_t length;

    if (!need(window, 1)) {
        return ENDS;
    }
    next = window->bytes + window->used;
    if (likely(next[0] != SUBSECTION)) {
        return 0;
    }
    if (!need(window, 2)) {
        return ENDS;
    }
    length = window->bytes[window->used + 1];
    if (length < packer->name_length + 1) {
        return 0;
    }
    if (!need(window, 2 + length)) {
        return ENDS;
    }
    next = window->bytes + window->used;
    return memcmp(next + 2, packer->vmsd->name, packer->name_length) ? 0 : WALK;
}

/* Load structs that are nothing but numbers or bytes in a row. */
static int load_flat(Window *window, const QvStep *step, unsigned char *to, size_t n)
{
    const QvPacker *element = step->element;
    const QvStep *inner = element->steps;
    int ret = 0;

    while (n && ret == 0) {
        size_t now = MIN(n, MAX(1, WINDOW / element->wire)), i = 1;
        const unsigned char *wire;

        if (!need(window, now * element->wire)) {
            return WALK;
        }
        wire = window->bytes + window->used;
        while (i < now && wire[i * element->wire] != SUBSECTION) {
            i++;
        }
        qv_copy_big_endian(inner->width, to, take(window, i * element->wire), i * inner->n);
        to += i * step->stride;
        n -= i;
        ret = check_end(window, element);
    }
    return ret;
}

static int load_steps(Window *window, const QvPacker *packer, unsigned char *pv);

static int load_structs(Window *window, const QvStep *step, unsigned char *to, size_t n)
{
    const QvPacker *element = step->element;
    int ret = 0;

    if (element->flat && element->wire && element->wire <= WINDOW
        && step->stride == element->wire) {
        return load_flat(window, step, to, n);
    }
    for (; n && ret == 0; n--, to += step->stride) {
        if (element->fixed && window->size - window->used < element->wire
            && !need(window, MIN(n * element->wire, WINDOW))) {
            return WALK;
        }
        ret = load_steps(window, element, to);
        if (ret == 0) {
            ret = check_end(window, element);
        }
    }
    return ret;
}

static int load_step(Window *window, const QvStep *step, unsigned char *pv)
{
    unsigned char *to = pv + step->offset;
    size_t n = qv_step_items(step, pv);

    if (n > step->room) {
        qv_refuse("%s: the stream has %zu elements, and there is room for %zu", step->name, n,
                  step->room);
        return -EINVAL;
    }
    if (!need(window, MIN(step->ahead, WINDOW))) {
        return WALK;
    }
    switch (step->kind) {
    case QV_NUMBERS:
        return load_numbers(window, step, to, n);
    case QV_BOOLS:
        return load_bools(window, to, n);
    case QV_BYTES:
        return load_bytes(window, to, n);
    case QV_UNUSED:
        return skip_bytes(window, n);
    default:
        return load_structs(window, step, to, n);
    }
}

static int load_steps(Window *window, const QvPacker *packer, unsigned char *pv)
{
    int ret = 0;
    size_t i;

    for (i = 0; i < packer->n_steps && ret == 0; i++) {
        ret = load_step(window, &packer->steps[i], pv);
    }
    return ret;
}

/* ------------------------------------------------------------------------ failures */

/*
 * Let QEMU walk a copy of what was read of the struct and of what the window has.  It cannot succeed,
 * because what it refuses is in there, or the end of the stream.
 */
static int walk_copy(Window *window, const QvPacker *packer, unsigned char *pv, Error **errp)
{
    size_t size = window->before + window->size, left;
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(size);
    QEMUFile *copy;
    uint8_t *rest;
    int ret;

    qv_struct_save_prefix(packer, pv, channel->data, window->before);
    if (window->size) {
        memcpy(channel->data + window->before, window->bytes, window->size);
    }
    channel->usage = size;
    copy = qv.qemu_file_new_input((QIOChannel *)channel);
    ret = qv_load_state(copy, &packer->walked, pv, packer->vmsd->version_id, errp);
    left = qv.qemu_peek_buffer(copy, &rest, WINDOW, 0) + (channel->usage - channel->offset);
    qv.qemu_fclose(copy);
    qv.object_unref((void *)channel);
    window->used = window->size - MIN(left, window->size);
    skip_used(window);
    return ret ? ret : -EINVAL;
}

int qv_struct_load(QEMUFile *f, const QvPacker *packer, unsigned char *pv, Error **errp)
{
    Window window = { .f = f };
    int ret;

    if (packer->fixed && packer->wire < WINDOW) {
        need(&window, packer->wire + 1); /* with the byte that check_end() looks at */
    }
    ret = load_steps(&window, packer, pv);
    if (likely(ret == 0)) {
        ret = check_end(&window, packer);
        if (ret == ENDS) { /* f has the error, and QEMU looks there */
            ret = 0;
        }
    }
    if (ret > 0) {
        return walk_copy(&window, packer, pv, errp);
    }
    skip_used(&window);
    return ret;
}
