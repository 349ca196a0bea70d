/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All or nothing for a whole VM: what a load has put into objects is taken back
 * when it fails later, in another device or in the stream between them.
 *
 * QEMU has no hook for that.  It tells a SaveVMHandlers entry that a load is
 * over, and whether it has failed can be seen; once the VM runs, it has not.
 */
#include "bridge/undo_log.h"
#include "bridge/python_call.h"

/* extern "Python+C" of callbacks.h, defined by the cffi module. */
int qv_py_end_load(void *handle, int undo, char **why);

/*
 * The live memory of an object's parts, one behind the other, before a commit.  Or,
 * without an object, how many of the next ones Python has: two objects may share a
 * state, so all have to be taken back in one order.
 */
typedef struct Former {
    QvObject *object;
    int count;
    unsigned char memory[];
} Former;

/* All guarded by the BQL. */
static GSList *formers;     /* owner: this file; newest first */
static bool python_has;     /* formers of its own */
static bool stale;          /* and they are of a load that succeeded */
static bool incoming;       /* the last load is a migration's, and not a snapshot's */

static void copy(QvObject *object, unsigned char *memory, bool out)
{
    QvLive *lives = qv_lives(object);
    size_t i;

    for (i = 0; i < object->kind->n_parts; i++) {
        size_t size = object->kind->parts[i].size;

        memcpy(out ? memory : lives[i].memory, out ? lives[i].memory : memory, size);
        memory += size;
    }
}

void qv_undo_begin_load(void)
{
    if (!formers && !python_has) {
        incoming = qv_load_is_incoming();
    }
    if (stale) {
        qv_undo_end_load(false);
    }
}

void qv_undo_remember(QvObject *object, bool by_python)
{
    size_t size = 0, i;
    Former *former = formers ? formers->data : NULL;

    if (by_python) {
        python_has = true;
        if (!former || former->object) {
            former = g_new0(Former, 1);
            formers = g_slist_prepend(formers, former);
        }
        former->count++;
        return;
    }
    for (i = 0; i < object->kind->n_parts; i++) {
        size += object->kind->parts[i].size;
    }
    former = g_malloc(sizeof(*former) + size);
    former->object = object;
    copy(object, former->memory, true);
    formers = g_slist_prepend(formers, former);
}

/* The newest undo of Python's; 0: it forgets all that it has. */
static void end_python(int undo)
{
    g_autofree char *why = NULL;

    if (qv_call_python(qv_py_end_load, NULL, undo, &why)) {
        qv.error_report("what a failed load put into Python's objects is still there");
    }
}

static void put_back(Former *former)
{
    QvObject *object = former->object;
    size_t which;

    if (!object) {
        end_python(former->count);
        return;
    }
    if (qv_cells_lock(qv_cells(object), object->n_cells, &which)) {
        qv.error_report("%s keeps what a failed load put into it: it is locked by this very "
                        "thread", object->kind->vmsd->name);
        return;
    }
    copy(object, former->memory, false);
    qv_cells_unlock(qv_cells(object), object->n_cells);
}

void qv_undo_end_load(bool failed)
{
    while (formers) {
        Former *former = formers->data;

        formers = g_slist_delete_link(formers, formers);
        if (failed) {
            put_back(former);
        }
        g_free(former);
    }
    if (python_has) {
        python_has = stale = false;
        end_python(0);
    }
}

void qv_undo_vm_runs(void)
{
    /* In the downtime: Python, which may be busy, is left for later. */
    g_slist_free_full(g_steal_pointer(&formers), g_free);
    stale = python_has;
}

bool qv_undo_is_incoming(void)
{
    return incoming;
}

void qv_undo_forget(QvObject *object)
{
    GSList *entry = formers;

    while (entry) {
        GSList *next = entry->next;

        if (((Former *)entry->data)->object == object) {
            g_free(entry->data);
            formers = g_slist_delete_link(formers, entry);
        }
        entry = next;
    }
}
