/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between Python and QEMU's C vmstate code.  The only file that knows QEMU
 * versions; all of that is in its first half.
 *
 * No QEMU symbol is linked to.  qv_init() looks each one up, in our build of
 * the migration code or in the running qemu-system-*, so that one module
 * serves both, also where QEMU exports nothing.
 */
#include "qemu/osdep.h"
#include <dlfcn.h>
#include "qapi/error.h"
#include "qapi/qapi-commands-control.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "io/channel-buffer.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/qemu-file.h"
#include "migration/vmstate.h"
#if QEMU_VERSION_MAJOR >= 10
#include "qobject/json-writer.h"
#else
#include "qapi/qmp/json-writer.h"
#endif

#include "bridge.h"
#include "cell.h"
#include "symbols.h"

/* ----------------------------------------------- what versions differ in */

#define QV_VERSION (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR)
#define QV_ERRP_HOOKS (QV_VERSION >= 1002)

#if QV_VERSION < 702
#error "qemu_vmstate needs QEMU 7.2 or later"
#endif

#if QV_VERSION >= 1000
#define QV_BQL_SYMBOLS(X) X(bql_lock_impl) X(bql_unlock) X(bql_locked)
#define QV_IDLE_SYMBOLS(X) X(migration_is_running)
#else
#define QV_BQL_SYMBOLS(X) \
    X(qemu_mutex_lock_iothread_impl) X(qemu_mutex_unlock_iothread) X(qemu_mutex_iothread_locked)
#define QV_IDLE_SYMBOLS(X) X(migration_is_idle)
#endif

#if QV_ERRP_HOOKS || QV_VERSION < 900
#define QV_SAVE_SYMBOL(X) X(vmstate_save_state)
#else
#define QV_SAVE_SYMBOL(X) X(vmstate_save_state_with_err)
#endif

/* Needed in both worlds. */
#define QV_SYMBOLS(X)                                                   \
    X(error_free) X(error_get_pretty) X(error_setg_internal)            \
    X(json_writer_end_object) X(json_writer_free) X(json_writer_get)    \
    X(json_writer_new) X(json_writer_start_object)                      \
    X(module_call_init) X(object_unref) X(qemu_fclose) X(qemu_fflush)   \
    X(qemu_file_get_error) X(qemu_file_new_input)                       \
    X(qemu_file_new_output) X(qemu_peek_buffer) X(qio_channel_buffer_new) \
    X(vmstate_load_state) QV_SAVE_SYMBOL(X)

/* Needed in a VM only; the migration code alone lacks them or has stubs. */
#define QV_VM_SYMBOLS(X)                                                \
    X(error_report) X(migrate_get_current) X(migrate_set_error)         \
    X(qapi_free_VersionInfo) X(qmp_query_version)                       \
    X(vmstate_register_with_alias_id) X(vmstate_unregister)             \
    QV_BQL_SYMBOLS(X) QV_IDLE_SYMBOLS(X)

static struct {
#define QV_MEMBER(name) __typeof__(name) *name;
    QV_SYMBOLS(QV_MEMBER)
    QV_VM_SYMBOLS(QV_MEMBER)
#undef QV_MEMBER
    void *library;          /* owner: the process, never closed; NULL in a VM */
    bool in_vm;
    bool ready;
} qv;

static int save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
                      JSONWriter *vmdesc, Error **errp)
{
#if QV_ERRP_HOOKS
    return qv.vmstate_save_state(f, vmsd, opaque, vmdesc, errp);
#elif QV_VERSION >= 900
    return qv.vmstate_save_state_with_err(f, vmsd, opaque, vmdesc, errp);
#else
    return qv.vmstate_save_state(f, vmsd, opaque, vmdesc);
#endif
}

static int load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
                      int version_id, Error **errp)
{
#if QV_ERRP_HOOKS
    return qv.vmstate_load_state(f, vmsd, opaque, version_id, errp);
#else
    return qv.vmstate_load_state(f, vmsd, opaque, version_id);
#endif
}

static bool migration_idle(void)
{
#if QV_VERSION >= 1000
    return !qv.migration_is_running();
#else
    return qv.migration_is_idle();
#endif
}

static void vm_bql_lock(void)
{
#if QV_VERSION >= 1000
    qv.bql_lock_impl(__FILE__, __LINE__);
#else
    qv.qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
#endif
}

static void vm_bql_unlock(void)
{
#if QV_VERSION >= 1000
    qv.bql_unlock();
#else
    qv.qemu_mutex_unlock_iothread();
#endif
}

static bool vm_bql_locked(void)
{
#if QV_VERSION >= 1000
    return qv.bql_locked();
#else
    return qv.qemu_mutex_iothread_locked();
#endif
}

void qv_end_of_list(VMStateField *field)
{
    *field = (VMStateField)VMSTATE_END_OF_LIST();
}

int qv_capabilities(void)
{
    return (QV_ERRP_HOOKS ? QV_CAP_ERRP_HOOKS : 0)
         | (QV_VERSION >= 1000 ? QV_CAP_EARLY_SETUP : 0)
         | (qv.in_vm ? QV_CAP_IN_VM : 0);
}

/* The hooks' common part, below; each shape of hook is a wrapper of these. */
static int take_snapshot(void *opaque, char **why);
static void reset_staging(void *opaque);
static int commit_staging(void *opaque, int version_id, char **why);
static void hook_failed(void *opaque, int ret, const char *why);

static int hook_pre_load(void *opaque)
{
    reset_staging(opaque);
    return 0;
}

#if QV_ERRP_HOOKS
static bool hook_pre_save(void *opaque, Error **errp)
{
    g_autofree char *why = NULL;
    int ret = take_snapshot(opaque, &why);

    if (ret < 0) {
        hook_failed(opaque, ret, why);
        qv.error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", why);
    }
    return ret == 0;
}

static bool hook_post_load(void *opaque, int version_id, Error **errp)
{
    g_autofree char *why = NULL;
    int ret = commit_staging(opaque, version_id, &why);

    if (ret < 0) {
        hook_failed(opaque, ret, why);
        qv.error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", why);
    }
    return ret == 0;
}
#else
/* These hooks return an errno only: in a VM the sentence takes a way of its own. */
static void report_failure(bool saving, const char *why)
{
    Error *err = NULL;

    if (!qv.in_vm) {
        return;
    }
    qv.error_report("%s", why);
    if (saving) {
        qv.error_setg_internal(&err, __FILE__, __LINE__, __func__, "%s", why);
        qv.migrate_set_error(qv.migrate_get_current(), err);
        qv.error_free(err);
    }
}

static int hook_pre_save(void *opaque)
{
    g_autofree char *why = NULL;
    int ret = take_snapshot(opaque, &why);

    if (ret < 0) {
        hook_failed(opaque, ret, why);
        report_failure(true, why);
    }
    return ret;
}

static int hook_post_load(void *opaque, int version_id)
{
    g_autofree char *why = NULL;
    int ret = commit_staging(opaque, version_id, &why);

    if (ret < 0) {
        hook_failed(opaque, ret, why);
        report_failure(false, why);
    }
    return ret;
}
#endif

static void set_hooks(VMStateDescription *vmsd)
{
    vmsd->pre_load = hook_pre_load;
#if QV_ERRP_HOOKS
    vmsd->pre_save_errp = hook_pre_save;
    vmsd->post_load_errp = hook_post_load;
#else
    vmsd->pre_save = hook_pre_save;
    vmsd->post_load = hook_post_load;
#endif
}

/* ---------------------------------------------------------- the process */

/* qv_py_*: extern "Python+C" of callbacks.h, defined by the cffi module. */
int qv_py_snapshot(void *handle, char **why);
int qv_py_restore(void *handle, int version_id, char **why);

/* Registering from inside a hook would change the list that QEMU is walking. */
static __thread int hook_depth;

static pthread_mutex_t in_process_bql = PTHREAD_MUTEX_INITIALIZER;
static __thread bool in_process_bql_held;

/* What error_report() said during one save or load; guarded by the BQL. */
static GString *reported;   /* owner: the innermost save or load that is running */

static void report_sink(const char *text)
{
    if (reported) {
        g_string_append(reported, text);
    } else {
        fputs(text, stderr);
    }
}

void qv_free(void *p)
{
    g_free(p);
}

char *qv_strdup(const char *text)
{
    return g_strdup(text);
}

const char *qv_built_for(void)
{
    return QEMU_VERSION;
}

static void *resolve(const char *name)
{
    return qv.library ? dlsym(qv.library, name) : qv_find_symbol(name);
}

/* First of all: another version's QEMU lacks other functions, which is not the point. */
static bool check_version(char **why)
{
    VersionInfo *version;
    bool same;

    qv.qmp_query_version = resolve("qmp_query_version");
    qv.qapi_free_VersionInfo = resolve("qapi_free_VersionInfo");
    if (!qv.qmp_query_version || !qv.qapi_free_VersionInfo) {
        *why = g_strdup("this executable shows no QEMU functions: it is no qemu-system-*, or "
                        "it was built without --enable-modules and then stripped");
        return false;
    }
    version = qv.qmp_query_version(NULL);
    same = version->qemu->major == QEMU_VERSION_MAJOR
        && version->qemu->minor == QEMU_VERSION_MINOR;

    if (!same) {
        *why = g_strdup_printf("this QEMU is %" PRId64 ".%" PRId64 ".%" PRId64
                               ", but qemu_vmstate was built for QEMU " QEMU_VERSION,
                               version->qemu->major, version->qemu->minor,
                               version->qemu->micro);
    }
    qv.qapi_free_VersionInfo(version);
    return same;
}

int qv_init(const char *library, char **why)
{
    g_autoptr(GString) missing = g_string_new(NULL);

    if (qv.ready) {
        return 0;
    }
    if (library) {
        void (**sink)(const char *);

        qv.library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!qv.library) {
            *why = g_strdup(dlerror());
            return -ENOENT;
        }
        sink = resolve("qv_report_sink");
        if (sink) {
            *sink = report_sink;
        }
    }
    if (!library && !check_version(why)) {
        return -EPROTO;
    }
#define QV_RESOLVE(name)                                                \
    qv.name = resolve(#name);                                           \
    if (!qv.name) {                                                     \
        g_string_append(missing, " " #name);                            \
    }
    QV_SYMBOLS(QV_RESOLVE)
    if (!library) {
        QV_VM_SYMBOLS(QV_RESOLVE)
    }
#undef QV_RESOLVE
    if (missing->len) {
        *why = g_strdup_printf("%s lacks%s", library ? library : "this executable",
                               missing->str);
        return -ENOSYS;
    }
    if (library) {
        qv.module_call_init(MODULE_INIT_QOM);
    }
    qv.in_vm = !library;
    qv.ready = true;
    return 0;
}

const VMStateInfo *qv_vmstate_info(const char *name)
{
    g_autofree char *symbol = g_strdup_printf("vmstate_info_%s", name);

    return resolve(symbol);
}

void qv_bql_lock(void)
{
    if (qv.in_vm) {
        vm_bql_lock();
    } else {
        pthread_mutex_lock(&in_process_bql);
        in_process_bql_held = true;
    }
}

void qv_bql_unlock(void)
{
    if (qv.in_vm) {
        vm_bql_unlock();
    } else {
        in_process_bql_held = false;
        pthread_mutex_unlock(&in_process_bql);
    }
}

int qv_bql_locked(void)
{
    return qv.in_vm ? vm_bql_locked() : in_process_bql_held;
}

/* Take the BQL unless this thread has it; what to give to bql_leave(). */
static bool bql_enter(void)
{
    bool taken = !qv_bql_locked();

    if (taken) {
        qv_bql_lock();
    }
    return taken;
}

static void bql_leave(bool taken)
{
    if (taken) {
        qv_bql_unlock();
    }
}

void qv_error_report(const char *text)
{
    if (qv.in_vm) {
        qv.error_report("%s", text);
    } else {
        fprintf(stderr, "%s\n", text);
    }
}

/* -------------------------------------------------------------- objects */

typedef struct QvPart {
    char *name;             /* owner: the object */
    QvCell *cell;           /* owner: Python */
    bool is_ref_cell;
    void *live;             /* owner: Python */
    size_t offset;
    size_t size;
} QvPart;

struct QvObject {
    VMStateDescription *vmsd;   /* owner: Python */
    const void *image;          /* owner: Python */
    size_t size;
    void *handle;               /* owner: Python */
    bool trampoline;
    bool registered;
    QvPart *parts;              /* owner: this object */
    size_t n_parts;
    QEMUFile *in;               /* owner: qv_load(), only while it runs */
    char *why;                  /* owner: this object; the failing hook's sentence */
    int error;                  /* the failing hook's errno */
    /* What C walks: opaque points here. */
    unsigned char staging[] __attribute__((aligned(16)));
};

static QvObject *object_of(void *opaque)
{
    return container_of(opaque, QvObject, staging[0]);
}

QvObject *qv_object_new(VMStateDescription *description, const void *image, size_t size,
                        void *handle, int trampoline)
{
    QvObject *object = g_malloc0(sizeof(*object) + size);

    object->vmsd = description;
    object->image = image;
    object->size = size;
    object->handle = handle;
    object->trampoline = trampoline;
    set_hooks(description);
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
    g_free(object->why);
    g_free(object);
}

void *qv_object_staging(QvObject *object)
{
    return object->staging;
}

int qv_object_add_part(QvObject *object, const char *name, void *cell, int is_ref_cell,
                       void *live, size_t offset, size_t size)
{
    if (offset > object->size || size > object->size - offset) {
        return -EINVAL;
    }
    object->parts = g_renew(QvPart, object->parts, object->n_parts + 1);
    object->parts[object->n_parts++] = (QvPart) {
        .name = g_strdup(name), .cell = cell, .is_ref_cell = is_ref_cell,
        .live = live, .offset = offset, .size = size,
    };
    return 0;
}

/* ---------------------------------------------------------------- hooks */

static void reset_staging(void *opaque)
{
    QvObject *object = object_of(opaque);

    memcpy(object->staging, object->image, object->size);
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
    ret = pthread_mutex_lock(&part->cell->mutex);
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
        pthread_mutex_unlock(&part->cell->mutex);
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

static int take_snapshot(void *opaque, char **why)
{
    QvObject *object = object_of(opaque);
    int ret;

    hook_depth++;
    reset_staging(opaque);
    ret = each_part(object, PART_SAVE, why);
    if (ret == 0 && object->trampoline) {
        ret = from_python(qv_py_snapshot(object->handle, why), why);
    }
    hook_depth--;
    return ret;
}

/*
 * What qv_load() puts behind the stream: QEMU peeks for a subsection after each
 * struct, a type byte, a length byte and so many bytes, and a peek past the end
 * is an I/O error to it.
 */
#define STREAM_TAIL (2 + 255)

/*
 * Looked at before anything is committed: a load that read too much or too
 * little must not change the object.
 */
static int check_all_read(QvObject *object, char **why)
{
    uint8_t *next;
    size_t left = qv.qemu_peek_buffer(object->in, &next, STREAM_TAIL + 1, 0);

    if (left == STREAM_TAIL) {
        return 0;
    }
    *why = g_strdup_printf("%s: the stream %s the last field", object->vmsd->name,
                           left > STREAM_TAIL ? "goes on after" : "ends before");
    return left > STREAM_TAIL ? -E2BIG : -ENODATA;
}

static int commit_staging(void *opaque, int version_id, char **why)
{
    QvObject *object = object_of(opaque);
    int ret = object->in ? check_all_read(object, why) : 0;

    hook_depth++;
    if (ret == 0) {
        ret = each_part(object, PART_CHECK, why);
    }
    if (ret == 0 && object->trampoline) {
        ret = from_python(qv_py_restore(object->handle, version_id, why), why);
    }
    if (ret == 0) {
        ret = each_part(object, PART_COMMIT, why);
    }
    hook_depth--;
    return ret;
}

/* Kept for qv_save() and qv_load(), whose callers get it whatever QEMU makes of it. */
static void hook_failed(void *opaque, int ret, const char *why)
{
    QvObject *object = object_of(opaque);

    g_free(object->why);
    object->why = g_strdup(why);
    object->error = ret;
}

/* --------------------------------------------------------- save and load */

/* The best sentence there is: a hook's own, QEMU's Error, what it reported. */
static int failure(QvObject *object, Error *err, int ret, char **why)
{
    ret = ret < 0 ? ret : -EINVAL;
    if (object->why) {
        *why = g_steal_pointer(&object->why);
        ret = object->error;
    } else if (err) {
        *why = g_strdup(qv.error_get_pretty(err));
    } else if (reported && reported->len) {
        *why = g_strdup(g_strstrip(reported->str));
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
    GString *outer = reported;

    g_clear_pointer(&object->why, g_free);
    reported = g_string_new(NULL);
    return outer;
}

static void end_report(GString *outer)
{
    g_string_free(reported, true);
    reported = outer;
}

int qv_save(QvObject *object, QvBytes *out, char **vmdesc, char **why)
{
    bool taken = bql_enter();
    QIOChannelBuffer *channel = qv.qio_channel_buffer_new(4096);
    QEMUFile *f = qv.qemu_file_new_output((QIOChannel *)channel);
    JSONWriter *json = NULL;
    GString *outer;
    Error *err = NULL;
    int ret;

    outer = begin_report(object);
    if (vmdesc) {
        json = qv.json_writer_new(false);
        qv.json_writer_start_object(json, NULL);
    }
    ret = save_state(f, object->vmsd, object->staging, json, &err);
    qv.qemu_fflush(f);
    if (ret == 0) {
        ret = qv.qemu_file_get_error(f);
    }
    if (ret == 0) {
        out->data = channel->data;
        out->size = channel->usage;
        channel->data = NULL;
        channel->usage = 0;
        if (json) {
            qv.json_writer_end_object(json);
            *vmdesc = g_strdup(qv.json_writer_get(json));
        }
    } else {
        ret = failure(object, err, ret, why);
    }
    end_report(outer);
    if (json) {
        qv.json_writer_free(json);
    }
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    bql_leave(taken);
    return ret;
}

int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id,
            char **why)
{
    bool taken = bql_enter();
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
    ret = load_state(f, object->vmsd, object->staging, version_id, &err);
    object->in = NULL;
    if (ret != 0) {
        ret = failure(object, err, ret, why);
    }
    end_report(outer);
    qv.qemu_fclose(f);
    qv.object_unref((void *)channel);
    bql_leave(taken);
    return ret;
}

/* ------------------------------------------------------------- registry */

/* A reason why the savevm list must be left alone now, or NULL. */
static const char *list_is_busy(void)
{
    if (hook_depth) {
        return "a migration hook is running";
    }
    return migration_idle() ? NULL : "a migration is running";
}

int qv_register(QvObject *object, uint32_t instance_id, char **why)
{
    bool taken = bql_enter();
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
    bql_leave(taken);
    return ret;
}

int qv_unregister(QvObject *object, char **why)
{
    bool taken = bql_enter();
    const char *busy = list_is_busy();

    if (busy) {
        *why = g_strdup(busy);
    } else {
        qv.vmstate_unregister(NULL, object->vmsd, object->staging);
        object->registered = false;
    }
    bql_leave(taken);
    return busy ? -EBUSY : 0;
}
