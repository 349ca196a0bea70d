/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Restoring objects together: see restore_batch.h.
 *
 * An object may wait only if the next section of the stream is that of another object that may.
 * Its post_load therefore peeks at what follows its own section.  That is safe because of two
 * things.
 *
 * The file is the right one.  QEMU gives hooks no QEMUFile; load_watch.c knows the one of
 * qemu_loadvm_state(), which is where an ordinary migration and the load of a snapshot have
 * their sections.  Two loads have them elsewhere, while a peek into that file would wait for
 * bytes that are not sent yet: a postcopy, in a package that is read once QEMU is in postcopy, and
 * a checkpoint of COLO, in a buffer, by a thread of its own, after the end of the load that began
 * with the file.  can_peek() excludes both.  Should a stream have a package without a postcopy, its
 * sections do not move the file's position, which is compared.
 *
 * The peek waits for no byte that QEMU would not wait for next.  After post_load QEMU reads the
 * footer, if the machine has any, then the type of the next section and, if that is 0x04, its
 * header.  There is nothing else between two sections.
 */
#include "bridge/restore_batch.h"
#include "bridge/python_call.h"
#include "bridge/snapshot.h"
#include "bridge/whole_load.h"
#include "migration/savevm.h"

#define FOOTER_SIZE 5
/* the type, the section's number, and the length of the name that follows */
#define HEADER_SIZE 6
/* the instance and the version behind the name */
#define HEADER_END 8

typedef struct Waiting {
    QvObject *object; /* owner: Python; it leaves the row before it is freed */
    int version_id;
} Waiting;

/* What a section of the stream is found by. */
typedef struct Section {
    const char *name; /* owner: Python */
    uint32_t instance_id;
} Section;

/* Owner: this file; a Section of each object that may wait, while a load of the VM runs, else NULL. */
static GHashTable *objects;
static GArray *row;             /* owner: this file, with objects; of Waiting, in stream order */
static QvObject *next;          /* the object that row waits for; or NULL */
static const uint8_t *position; /* of the stream when the load of an object began; or NULL */
static bool python_waits;       /* begin_load() of qv_python_table was called */

static guint hash_section(gconstpointer key)
{
    const Section *section = key;

    return g_str_hash(section->name) + section->instance_id * 2654435761u;
}

static gboolean is_same_section(gconstpointer a, gconstpointer b)
{
    const Section *one = a, *other = b;

    return one->instance_id == other->instance_id && !strcmp(one->name, other->name);
}

/*
 * Return whether the object's load calls no Python before its restore, which might see that an
 * earlier object's restore is missing.  The pages of a mapping are released after its restore, so
 * that a row does not need the memory of all its objects.
 */
static bool may_wait(const QvObject *object)
{
    return !(object->hooks & (QV_HOOK_PRE_LOAD | QV_HOOK_PREDICATES | QV_HOOK_NEEDED))
           && !object->object_class->n_preserved && !object->mapped
           && !qv_is_early(object->object_class->vmsd);
}

static bool some_wait(void)
{
    return row && row->len;
}

/* Let none wait: their restores were made, or will not be made. */
static void forget(void)
{
    guint i;

    for (i = 0; row && i < row->len; i++) {
        g_array_index(row, Waiting, i).object->waits = false;
    }
    if (row) {
        g_array_set_size(row, 0);
    }
    next = NULL;
    position = NULL;
}

static Section section_of(const QvObject *object)
{
    return (Section){ object->object_class->vmsd->name, object->instance_id };
}

/* A QvPythonHook, because it has to run on the large stack. */
static int tell_python(void *unused, int begins, char **errmsg)
{
    (begins ? qv_python_table->begin_load : qv_python_table->end_load)();
    return 0;
}

void qv_restore_batch_begin_load(void)
{
    bool needs_python = false;
    QvObject *object;

    qv_restore_batch_end_load();
    objects = g_hash_table_new_full(hash_section, is_same_section, g_free, NULL);
    row = g_array_new(false, false, sizeof(Waiting));
    QTAILQ_FOREACH(object, &qv_whole_load.objects, entry)
    {
        if (may_wait(object)) {
            Section section = section_of(object);

            g_hash_table_insert(objects, g_memdup2(&section, sizeof(section)), object);
            needs_python = needs_python || (object->hooks & QV_HOOK_RESTORE);
        }
    }
    /* At the begin of a snapshot's load the machine has stopped, and it would be one more wait. */
    if (needs_python && qv_whole_load.of_migration) {
        python_waits = qv_call_python(tell_python, NULL, true, NULL) == 0;
    }
}

void qv_restore_batch_end_load(void)
{
    if (python_waits) {
        python_waits = false;
        qv_call_python(tell_python, NULL, false, NULL);
    }
    forget();
    g_clear_pointer(&objects, g_hash_table_destroy);
    if (row) {
        g_array_free(row, true);
        row = NULL;
    }
}

static void leave_row(QvObject *object)
{
    guint i;

    for (i = 0; i < row->len; i++) {
        if (g_array_index(row, Waiting, i).object == object) {
            g_array_remove_index(row, i);
            break;
        }
    }
    object->waits = false;
}

void qv_restore_batch_remove(QvObject *object)
{
    if (objects && may_wait(object)) {
        Section section = section_of(object);

        g_hash_table_remove(objects, &section);
    }
    if (object->waits) {
        leave_row(object);
    }
    if (next == object) {
        next = NULL;
    }
}

/* Return whether the stream of the load that runs is the one that this thread reads from. */
static bool can_peek(void)
{
    return objects && qv_whole_load.stream && qv_whole_load.of_migration == qv_in_coroutine()
           && !qv_in_postcopy();
}

/* Return the next size bytes of the stream, or NULL if it ends before. */
static const uint8_t *peek(size_t size)
{
    uint8_t *bytes;

    return qv.qemu_peek_buffer(qv_whole_load.stream, &bytes, size, 0) == size ? bytes : NULL;
}

/* Return the object whose section is next in the stream and that may wait, or NULL. */
static QvObject *peek_object(void)
{
    const uint8_t *bytes = peek(1);
    size_t at, length;
    char name[256];

    if (!bytes) {
        return NULL;
    }
    at = *bytes == QEMU_VM_SECTION_FOOTER ? FOOTER_SIZE : 0;
    bytes = peek(at + 1);
    if (!bytes || bytes[at] != QEMU_VM_SECTION_FULL) {
        return NULL;
    }
    bytes = peek(at + HEADER_SIZE);
    if (!bytes) {
        return NULL;
    }
    length = bytes[at + HEADER_SIZE - 1];
    bytes = peek(at + HEADER_SIZE + length + HEADER_END);
    if (!bytes) {
        return NULL;
    }
    bytes += at + HEADER_SIZE;
    memcpy(name, bytes, length);
    name[length] = 0;
    return g_hash_table_lookup(objects, &(Section){ name, ldl_be_p(bytes + length) });
}

/* Return the object that the one whose fields were just loaded may wait for, or NULL. */
static QvObject *find_next(QvObject *object)
{
    /* If others wait already, this object's header was found in the same file. */
    bool certain = some_wait() || (position && can_peek() && peek(1) && peek(1) != position);
    QvObject *found = certain ? peek_object() : NULL;

    return found != object ? found : NULL;
}

static int commit(QvObject *object, int version_id, int *gil, char **errmsg)
{
    int ret;

    object->waits = false;
    ret = qv_object_commit(object, version_id, gil, errmsg);
    if (ret == 0) {
        qv_whole_load_restored(object);
    }
    return ret;
}

/* QEMU names the last object of the row, so say which one failed and why it is named. */
static void explain(const QvObject *failed, const QvObject *last, char **errmsg)
{
    g_autofree char *reason = *errmsg;

    *errmsg = g_strdup_printf("%s (this is '%s', instance %u; it is restored together with the "
                              "devices behind it in the stream, so QEMU names the last one, '%s')",
                              reason, failed->object_class->vmsd->name, failed->instance_id,
                              last->object_class->vmsd->name);
}

/* A QvPythonHook, because it has to run on the large stack. */
static int commit_row(void *unused, int unused_too, char **errmsg)
{
    int gil = qv_python_table->enter_batch(), ret = 0;
    const QvObject *last = g_array_index(row, Waiting, row->len - 1).object;
    guint i;

    for (i = 0; i < row->len && ret == 0; i++) {
        Waiting *one = &g_array_index(row, Waiting, i);

        qv_python_table->keep();
        ret = commit(one->object, one->version_id, &gil, errmsg);
        if (ret && one->object != last) {
            explain(one->object, last, errmsg);
        }
    }
    qv_python_table->leave_batch(gil);
    return ret;
}

int qv_restore_batch_flush(char **errmsg)
{
    int ret = some_wait() ? qv_call_python(commit_row, NULL, 0, errmsg) : 0;

    forget();
    return ret;
}

int qv_restore_batch_begin(QvObject *object, char **errmsg)
{
    int ret = 0;

    if (some_wait()) {
        if (object == next) {
            return 0;
        }
        /* QEMU 7.2 takes two devices of one name and instance, and loads the other one. */
        ret = qv_restore_batch_flush(errmsg);
    }
    position = (object->hooks & QV_HOOK_RESTORE) && may_wait(object) && can_peek() ? peek(1) : NULL;
    return ret;
}

int qv_restore_batch_commit(QvObject *object, int version_id, char **errmsg)
{
    Waiting one = { object, version_id };

    if (!some_wait() && !position) {
        return commit(object, version_id, NULL, errmsg);
    }
    next = find_next(object);
    if (!next && !some_wait()) {
        return commit(object, version_id, NULL, errmsg);
    }
    g_array_append_val(row, one);
    if (next) {
        object->waits = true;
        return 0;
    }
    return qv_restore_batch_flush(errmsg);
}
