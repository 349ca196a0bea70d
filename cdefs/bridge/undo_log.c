/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The undo of a VM's load: all objects that it restored are rolled back if it fails later,
 * in another device or in the stream between devices.
 *
 * QEMU has no hook for that: load_watch.c detects the end of a load.
 */
#include "bridge/undo_log.h"
#include "bridge/python_call.h"

/* extern "Python+C" of callbacks.h, defined by the cffi module; takes the reference over. */
int qv_py_roll_back(void *undo, int unused, char **errmsg);

/*
 * The record of one restore.  Two objects may share a state, so all records, C's and Python's,
 * are rolled back in one order, newest first.
 */
typedef struct UndoRecord {
    QvObject *object;       /* owner: Python; or NULL */
    void *undo;             /* owner: this record; a Python object, if object is NULL */
    unsigned char memory[]; /* the previous bytes of object's parts, in a row */
} UndoRecord;

/* The BQL guards these. */
static GSList *records;  /* owner: this file; newest first */
static GSList *finished; /* owner: this file; Python's records of a load that succeeded */

static void copy(QvObject *object, unsigned char *memory, bool out)
{
    QvRuntimePart *runtime = qv_runtime_parts(object);
    size_t i;

    for (i = 0; i < object->object_class->n_parts; i++) {
        size_t size = object->object_class->parts[i].size;

        memcpy(out ? memory : runtime[i].memory, out ? runtime[i].memory : memory, size);
        memory += size;
    }
}

/* A QvPythonHook, because it has to run on the large stack. */
static int release_finished(void *unused, int unused_too, char **errmsg)
{
    int gil = qv_python_table->enter();

    (void)unused;
    (void)unused_too;
    (void)errmsg;
    while (finished) {
        UndoRecord *record = finished->data;

        finished = g_slist_delete_link(finished, finished);
        qv_python_table->release(record->undo);
        g_free(record);
    }
    qv_python_table->leave(gil);
    return 0;
}

void qv_undo_finish(void)
{
    while (records) {
        UndoRecord *record = records->data;

        records = g_slist_delete_link(records, records);
        if (record->object) {
            g_free(record);
        } else {
            finished = g_slist_prepend(finished, record);
        }
    }
}

void qv_undo_release(void)
{
    if (finished) {
        qv_call_python(release_finished, NULL, 0, NULL);
    }
}

void qv_undo_add_parts(QvObject *object)
{
    size_t size = 0, i;
    UndoRecord *record;

    for (i = 0; i < object->object_class->n_parts; i++) {
        size += object->object_class->parts[i].size;
    }
    record = g_malloc(sizeof(*record) + size);
    *record = (UndoRecord){ .object = object };
    copy(object, record->memory, true);
    records = g_slist_prepend(records, record);
}

void qv_undo_add_python(void *undo)
{
    UndoRecord *record = g_new0(UndoRecord, 1);

    record->undo = undo;
    records = g_slist_prepend(records, record);
}

static void roll_back_parts(UndoRecord *record)
{
    QvObject *object = record->object;
    size_t which;

    if (qv_cells_lock(qv_cells(object), object->n_cells, &which)) {
        qv.error_report("%s keeps what a failed load put into it: it is locked by this very "
                        "thread",
                        object->object_class->vmsd->name);
        return;
    }
    copy(object, record->memory, false);
    qv_cells_unlock(qv_cells(object), object->n_cells);
}

static void roll_back_python(UndoRecord *record)
{
    g_autofree char *errmsg = NULL;

    if (qv_call_python(qv_py_roll_back, record->undo, 0, &errmsg)) {
        qv.error_report("what a failed load put into Python's objects is still there");
    }
}

void qv_undo_roll_back(void)
{
    while (records) {
        UndoRecord *record = records->data;

        records = g_slist_delete_link(records, records);
        (record->object ? roll_back_parts : roll_back_python)(record);
        g_free(record);
    }
}

void qv_undo_forget(QvObject *object)
{
    GSList *entry = records;

    while (entry) {
        GSList *next = entry->next;

        if (((UndoRecord *)entry->data)->object == object) {
            g_free(entry->data);
            records = g_slist_delete_link(records, entry);
        }
        entry = next;
    }
}
