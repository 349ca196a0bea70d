/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between Python and QEMU's C vmstate code: objects with a staging struct, what
 * their hooks do, saving and loading them, and their place in the savevm list.
 */
#include "qemu.h"
#include "cell.h"

/* extern "Python+C" of callbacks.h, defined by the cffi module. */
int qv_py_snapshot(void *handle, int keep, char **why);
int qv_py_restore(void *handle, int version_id, char **why);
int qv_py_hook(void *handle, int hook, char **why);

/* Registering from inside a hook would change the list that QEMU is walking. */
static __thread int hook_depth;

/* -------------------------------------------------------------- objects */

typedef struct QvPart {
    char *name;             /* owner: the object */
    QvCell *cell;           /* owner: Python */
    bool is_ref_cell;
    void *live;             /* owner: Python */
    size_t offset;
    size_t size;
} QvPart;

typedef struct QvRange {
    size_t offset;
    size_t size;
} QvRange;

typedef struct QvPointers {
    size_t slots;
    size_t elements;
    size_t present;
    size_t size;
    size_t count;
} QvPointers;

struct QvObject {
    VMStateDescription *vmsd;   /* owner: Python */
    const unsigned char *image; /* owner: Python */
    size_t size;
    void *handle;               /* owner: Python */
    int hooks;                  /* of QvHook */
    bool registered;
    QvPart *parts;              /* owner: this object */
    size_t n_parts;
    QvRange *keeps;             /* owner: this object */
    size_t n_keeps;
    QvPointers *pointers;       /* owner: this object */
    size_t n_pointers;
    QvRange *subsections;       /* owner: this object */
    size_t n_subsections;
    uint64_t needed;            /* a bit for each of them */
    QEMUFile *in;               /* owner: qv_load(), only while it runs */
    const QIOChannelBuffer *channel;    /* what in reads from */
    bool direct;                /* qv_save() or qv_load() runs, not a migration */
    char *why;                  /* owner: this object; the failing hook's sentence */
    int error;                  /* the failing hook's errno */
    char *failure;              /* owner: this object; what a predicate could not tell QEMU */
    int failed;                 /* its errno */
    /* What C walks: opaque points here. */
    unsigned char staging[] __attribute__((aligned(16)));
};

static QvObject *object_of(void *opaque)
{
    return container_of(opaque, QvObject, staging[0]);
}

QvObject *qv_object_new(VMStateDescription *description, const void *image, size_t size,
                        void *handle, int hooks)
{
    QvObject *object = g_malloc0(sizeof(*object) + size);

    object->vmsd = description;
    object->image = image;
    object->size = size;
    object->handle = handle;
    object->hooks = hooks;
    qv_set_hooks(description);
    return object;
}

void qv_object_free(QvObject *object)
{
    size_t i;

    g_assert(!object->registered);
    for (i = 0; i < object->n_parts; i++) {
        g_free(object->parts[i].name);
    }
    g_free(object->parts);
    g_free(object->keeps);
    g_free(object->pointers);
    g_free(object->subsections);
    g_free(object->why);
    g_free(object->failure);
    g_free(object);
}

void *qv_object_staging(QvObject *object)
{
    return object->staging;
}

static bool inside(QvObject *object, size_t offset, size_t size)
{
    return offset <= object->size && size <= object->size - offset;
}

int qv_object_add_part(QvObject *object, const char *name, void *cell, int is_ref_cell,
                       void *live, size_t offset, size_t size)
{
    if (!inside(object, offset, size)) {
        return -EINVAL;
    }
    object->parts = g_renew(QvPart, object->parts, object->n_parts + 1);
    object->parts[object->n_parts++] = (QvPart) {
        .name = g_strdup(name), .cell = cell, .is_ref_cell = is_ref_cell,
        .live = live, .offset = offset, .size = size,
    };
    return 0;
}

int qv_object_keep(QvObject *object, size_t offset, size_t size)
{
    if (!inside(object, offset, size)) {
        return -EINVAL;
    }
    object->keeps = g_renew(QvRange, object->keeps, object->n_keeps + 1);
    object->keeps[object->n_keeps++] = (QvRange) { offset, size };
    return 0;
}

int qv_object_add_pointers(QvObject *object, size_t slots, size_t elements, size_t present,
                           size_t size, size_t count)
{
    if (count > object->size || size > object->size
        || !inside(object, slots, count * sizeof(void *))
        || !inside(object, elements, count * size) || !inside(object, present, count)) {
        return -EINVAL;
    }
    object->pointers = g_renew(QvPointers, object->pointers, object->n_pointers + 1);
    object->pointers[object->n_pointers++] = (QvPointers) {
        slots, elements, present, size, count
    };
    return 0;
}

#define MOST_SUBSECTIONS 64

int qv_object_add_subsection(QvObject *object, size_t offset, size_t size)
{
    if (!inside(object, offset, size) || object->n_subsections == MOST_SUBSECTIONS) {
        return -EINVAL;
    }
    object->subsections = g_renew(QvRange, object->subsections, object->n_subsections + 1);
    object->subsections[object->n_subsections] = (QvRange) { offset, size };
    return object->n_subsections++;
}

void qv_object_set_needed(QvObject *object, int number, int needed)
{
    uint64_t bit = 1ull << number;

    object->needed = needed ? object->needed | bit : object->needed & ~bit;
}

static void compare_subsections(QvObject *object)
{
    size_t i;

    for (i = 0; i < object->n_subsections; i++) {
        QvRange *range = &object->subsections[i];

        if (range->size) {
            qv_object_set_needed(object, i,
                                 memcmp(object->staging + range->offset,
                                        object->image + range->offset, range->size) != 0);
        }
    }
}

/* C asks a subsection's needed without saying which: each number has a function. */
#define EIGHT(X, tens) X(tens##0) X(tens##1) X(tens##2) X(tens##3) \
                       X(tens##4) X(tens##5) X(tens##6) X(tens##7)
#define ALL(X) EIGHT(X, 00) EIGHT(X, 01) EIGHT(X, 02) EIGHT(X, 03) \
               EIGHT(X, 04) EIGHT(X, 05) EIGHT(X, 06) EIGHT(X, 07)

#define NEEDED(octal)                                           \
    static bool needed_##octal(void *opaque)                    \
    {                                                           \
        return object_of(opaque)->needed >> octal & 1;          \
    }
ALL(NEEDED)

QvNeeded *qv_needed_at(int number)
{
#define ENTRY(octal) needed_##octal,
    static QvNeeded *const all[MOST_SUBSECTIONS] = { ALL(ENTRY) };

    return number >= 0 && number < MOST_SUBSECTIONS ? all[number] : NULL;
}

void qv_object_fail(QvObject *object, int error, const char *why)
{
    if (!object->failed) {
        object->failed = error < 0 ? error : -EINVAL;
        object->failure = g_strdup(why);
    }
}

/* ---------------------------------------------------------------- hooks */

static void begin(QvObject *object)
{
    hook_depth++;
    object->failed = 0;
    g_clear_pointer(&object->failure, g_free);
    memcpy(object->staging, object->image, object->size);
}

/* The failure of a predicate, which had no way to say so. */
static int late_failure(QvObject *object, char **why)
{
    int ret = object->failed;

    if (ret) {
        *why = g_steal_pointer(&object->failure);
        object->failed = 0;
    }
    return ret;
}

/* C finds the elements of pointer arrays, or NULL, while it walks; nobody else does. */
static void set_pointers(QvObject *object, bool walking)
{
    size_t i, j;

    for (i = 0; i < object->n_pointers; i++) {
        QvPointers *array = &object->pointers[i];
        void **slots = (void **)(object->staging + array->slots);

        for (j = 0; j < array->count; j++) {
            bool present = walking && object->staging[array->present + j];

            slots[j] = present ? object->staging + array->elements + j * array->size : NULL;
        }
    }
}

static int part_lock(QvObject *object, QvPart *part, bool to_change, char **why)
{
    int ret;

    if (part->is_ref_cell) {
        if (part->cell->borrow < 0 || (to_change && part->cell->borrow)) {
            *why = g_strdup_printf("%s.%s is still %sborrowed; end the borrow before the "
                                   "BQL is released", object->vmsd->name, part->name,
                                   part->cell->borrow < 0 ? "mutably " : "");
            return -EBUSY;
        }
        return 0;
    }
    ret = qv_cell_lock(part->cell, NULL);
    if (ret) {
        *why = g_strdup_printf("%s.%s is locked by this very thread; leave the guard first",
                               object->vmsd->name, part->name);
        return -ret;
    }
    return 0;
}

static void part_unlock(QvPart *part)
{
    if (!part->is_ref_cell) {
        qv_cell_unlock(part->cell);
    }
}

typedef enum { PART_SAVE, PART_CHECK, PART_COMMIT } PartStep;

/* One part under its lock: copied out, looked at, or copied in. */
static int part_step(QvObject *object, QvPart *part, PartStep step, char **why)
{
    int ret = part_lock(object, part, step != PART_SAVE, why);

    if (ret < 0) {
        return ret;
    }
    if (part->cell->poisoned && step != PART_COMMIT) {
        *why = g_strdup_printf("%s.%s is poisoned: an exception left its guard, so its "
                               "fields may contradict each other; repair them, then "
                               "clear_poison()", object->vmsd->name, part->name);
        ret = -EOWNERDEAD;
    } else if (step == PART_SAVE) {
        memcpy(object->staging + part->offset, part->live, part->size);
    } else if (step == PART_COMMIT) {
        memcpy(part->live, object->staging + part->offset, part->size);
    }
    part_unlock(part);
    return ret;
}

static int each_part(QvObject *object, PartStep step, char **why)
{
    size_t i;
    int ret = 0;

    for (i = 0; i < object->n_parts && ret == 0; i++) {
        ret = part_step(object, &object->parts[i], step, why);
    }
    return ret;
}

/* Python answers 0 or a negative errno; anything else is a failure all the same. */
static int from_python(int ret, char **why)
{
    if (ret == 0) {
        return 0;
    }
    if (!*why) {
        *why = g_strdup("the Python hook failed before it could say why; see the log");
    }
    return ret < 0 ? ret : -EINVAL;
}

static int fill(QvObject *object, bool keep, char **why)
{
    int ret = each_part(object, PART_SAVE, why);

    if (ret == 0 && (object->hooks & QV_HOOK_SNAPSHOT)) {
        ret = from_python(qv_py_snapshot(object->handle, keep, why), why);
    }
    return ret;
}

int qv_take_snapshot(void *opaque, char **why)
{
    QvObject *object = object_of(opaque);
    int ret;

    begin(object);
    ret = fill(object, false, why);
    compare_subsections(object);
    set_pointers(object, true);
    hook_depth--;
    return ret;
}

int qv_after_save(void *opaque, char **why)
{
    QvObject *object = object_of(opaque);
    int ret = late_failure(object, why);

    hook_depth++;
    if (object->hooks & QV_HOOK_POST_SAVE) {
        g_autofree char *second = NULL;
        int late = from_python(qv_py_hook(object->handle, QV_HOOK_POST_SAVE, &second), &second);

        if (ret == 0 && late) {
            ret = late;
            *why = g_steal_pointer(&second);
        }
    }
    hook_depth--;
    return ret;
}

/* The staging struct as it is at rest, but for what is kept of the live state. */
static int keep_live(QvObject *object, char **why)
{
    g_autofree unsigned char *live = NULL;
    size_t i;
    int ret = fill(object, true, why);

    if (ret < 0) {
        return ret;
    }
    live = g_memdup2(object->staging, object->size);
    memcpy(object->staging, object->image, object->size);
    for (i = 0; i < object->n_keeps; i++) {
        QvRange *range = &object->keeps[i];

        memcpy(object->staging + range->offset, live + range->offset, range->size);
    }
    return 0;
}

int qv_begin_load(void *opaque, char **why)
{
    QvObject *object = object_of(opaque);
    int ret = 0;

    begin(object);
    if (object->hooks & QV_HOOK_PRE_LOAD) {
        ret = from_python(qv_py_hook(object->handle, QV_HOOK_PRE_LOAD, why), why);
    }
    if (ret == 0 && object->n_keeps) {
        ret = keep_live(object, why);
    }
    set_pointers(object, true);
    hook_depth--;
    return ret;
}

/*
 * What qv_load() puts behind the stream: QEMU peeks for a subsection after each
 * struct, a type byte, a length byte and so many bytes, and a peek past the end
 * is an I/O error to it.
 */
#define STREAM_TAIL (2 + 255)

/* How much is left of stream and tail, as far as it matters; the same after a failure. */
static size_t left_over(QEMUFile *f, const QIOChannelBuffer *channel)
{
    uint8_t *next;
    size_t buffered = qv.qemu_peek_buffer(f, &next, STREAM_TAIL + 1, 0);

    return buffered + (channel->usage - channel->offset);
}

/*
 * Looked at before anything is committed: a load that read too much or too
 * little must not change the object.
 */
static int check_all_read(QvObject *object, char **why)
{
    size_t left = left_over(object->in, object->channel);

    if (left == STREAM_TAIL) {
        return 0;
    }
    *why = g_strdup_printf("%s: the stream %s the last field", object->vmsd->name,
                           left > STREAM_TAIL ? "goes on after" : "ends before");
    return left > STREAM_TAIL ? -E2BIG : -ENODATA;
}

int qv_commit_staging(void *opaque, int version_id, char **why)
{
    QvObject *object = object_of(opaque);
    int ret = late_failure(object, why);

    if (ret == 0 && object->in) {
        ret = check_all_read(object, why);
    }
    hook_depth++;
    set_pointers(object, false);
    if (ret == 0) {
        ret = each_part(object, PART_CHECK, why);
    }
    if (ret == 0 && (object->hooks & QV_HOOK_RESTORE)) {
        ret = from_python(qv_py_restore(object->handle, version_id, why), why);
    }
    if (ret == 0) {
        ret = each_part(object, PART_COMMIT, why);
    }
    hook_depth--;
    return ret;
}

/* qv_save() and qv_load() tell their callers, whatever QEMU makes of it. */
bool qv_hook_failed(void *opaque, int ret, const char *why)
{
    QvObject *object = object_of(opaque);

    if (object->direct) {
        g_free(object->why);
        object->why = g_strdup(why);
        object->error = ret;
    }
    return !object->direct;
}

/* --------------------------------------------------------- save and load */

/* The best sentence there is: a hook's own, QEMU's Error, what it reported. */
static int failure(QvObject *object, Error *err, int ret, char **why)
{
    ret = ret < 0 ? ret : -EINVAL;
    if (object->why) {
        *why = g_steal_pointer(&object->why);
        ret = object->error;
    } else if (qv_refusal) {
        *why = g_steal_pointer(&qv_refusal);
        ret = -EINVAL;
    } else if (qv_reported && qv_reported->len) {
        /* 10.2's Error says where, and what was wrong with it is only reported. */
        g_auto(GStrv) lines = g_strsplit(g_strstrip(qv_reported->str), "\n", -1);
        g_autofree char *reported = g_strjoinv("; ", lines);

        *why = err ? g_strdup_printf("%s: %s", qv.error_get_pretty(err), reported)
                   : g_steal_pointer(&reported);
    } else if (err) {
        *why = g_strdup(qv.error_get_pretty(err));
    } else {
        *why = g_strdup(strerror(-ret));
    }
    if (err) {
        qv.error_free(err);
    }
    return ret;
}

/* The outer one is given back at the end: a snapshot may save another object. */
static GString *begin_report(QvObject *object)
{
    GString *outer = qv_reported;

    object->direct = true;
    qv_reported = g_string_new(NULL);
    return outer;
}

static void end_report(QvObject *object, GString *outer)
{
    object->direct = false;
    g_clear_pointer(&qv_refusal, g_free);
    g_string_free(qv_reported, true);
    qv_reported = outer;
}

int qv_save(QvObject *object, QvBytes *out, char **vmdesc, char **why)
{
    bool taken = qv_bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(4096);
    QEMUFile *f = qv.qemu_file_new_output((QIOChannel *)channel);
    JSONWriter *json = NULL;
    GString *outer;
    Error *err = NULL;
    int ret;

    outer = begin_report(object);
    if (vmdesc) {
        json = qv_vmdesc_begin();
    }
    ret = qv_save_state(f, object->vmsd, object->staging, json, &err);
    qv.qemu_fflush(f);
    if (ret == 0) {
        ret = qv.qemu_file_get_error(f);
    }
    if (ret == 0) {
        out->data = channel->data;
        out->size = channel->usage;
        channel->data = NULL;
        channel->usage = 0;
    } else {
        ret = failure(object, err, ret, why);
    }
    end_report(object, outer);
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

int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id,
            char **why)
{
    bool taken = qv_bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(size + STREAM_TAIL);
    QEMUFile *f;
    GString *outer;
    Error *err = NULL;
    int ret;

    memcpy(channel->data, data, size);
    memset(channel->data + size, 0, STREAM_TAIL);
    channel->usage = size + STREAM_TAIL;
    f = qv.qemu_file_new_input((QIOChannel *)channel);
    outer = begin_report(object);
    object->in = f;
    object->channel = channel;
    ret = qv_load_state(f, object->vmsd, object->staging, version_id, &err);
    object->in = NULL;
    if (ret != 0) {
        /* What was found wrong behind the end is not what is wrong. */
        bool ended = !object->why && left_over(f, channel) < STREAM_TAIL;

        ret = failure(object, err, ret, why);
        ret = ended ? -ENODATA : ret;
    }
    end_report(object, outer);
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    qv_bql_leave(taken);
    return ret;
}

/* ------------------------------------------------------------- registry */

/* A reason why the savevm list must be left alone now, or NULL. */
static const char *list_is_busy(void)
{
    if (hook_depth) {
        return "a migration hook is running";
    }
    return qv_migration_idle() ? NULL : "a migration is running";
}

int qv_register(QvObject *object, uint32_t instance_id, char **why)
{
    bool taken = qv_bql_enter();
    const char *busy = list_is_busy();
    Error *err = NULL;
    int ret = -EBUSY;

    if (busy) {
        *why = g_strdup(busy);
    } else {
        ret = qv.vmstate_register_with_alias_id(NULL, instance_id, object->vmsd,
                                                object->staging, -1, 0, &err);
        if (ret < 0) {
            ret = failure(object, err, -EINVAL, why);
        } else {
            object->registered = true;
        }
    }
    qv_bql_leave(taken);
    return ret;
}

int qv_unregister(QvObject *object, char **why)
{
    bool taken = qv_bql_enter();
    const char *busy = list_is_busy();

    if (busy) {
        *why = g_strdup(busy);
    } else {
        qv.vmstate_unregister(NULL, object->vmsd, object->staging);
        object->registered = false;
    }
    qv_bql_leave(taken);
    return busy ? -EBUSY : 0;
}
