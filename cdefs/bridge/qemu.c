/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binds the bridge to QEMU's code.  The only file that knows QEMU versions.
 *
 * No QEMU symbol is linked to.  qv_init() looks each one up, in our build of
 * the migration code or in the running qemu-system-*, so that one module
 * serves both, also where QEMU exports nothing.
 */
#include "bridge/qemu.h"
#include "shared/bql_functions.h"
#include <dlfcn.h>
#include "qapi/qapi-commands-control.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "migration/migration.h"
#include "migration/register.h"
#if QEMU_VERSION_MAJOR >= 10
#include "qobject/json-writer.h"
#include "system/runstate.h"
#else
#include "qapi/qmp/json-writer.h"
#include "sysemu/runstate.h"
#endif

#include "bridge/symbols.h"

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

/* QEMU's functions that only this file calls; as in qemu.h. */
#define QV_OWN_SYMBOLS(X)                                               \
    X(json_writer_end_object) X(json_writer_free) X(json_writer_get)    \
    X(json_writer_new) X(json_writer_start_object) X(module_call_init)  \
    X(vmstate_load_state) QV_SAVE_SYMBOL(X)
#define QV_OWN_VM_SYMBOLS(X)                                            \
    X(migrate_get_current) X(migrate_set_error)                         \
    X(qapi_free_VersionInfo) X(qemu_in_coroutine) X(qmp_query_version)  \
    X(migration_incoming_get_current) X(qemu_add_vm_change_state_handler) \
    X(register_savevm_live) X(runstate_check)                           \
    QV_BQL_SYMBOLS(X) QV_IDLE_SYMBOLS(X)

QvQemu qv;
GString *qv_reported;
char *qv_refusal;           /* owner: this file; guarded by the BQL */

static struct {
#define QV_MEMBER(name) __typeof__(name) *name;
    QV_OWN_SYMBOLS(QV_MEMBER)
    QV_OWN_VM_SYMBOLS(QV_MEMBER)
#undef QV_MEMBER
    void *library;          /* owner: the process, never closed; NULL in a VM */
    bool ready;
} own;

int qv_save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
                  JSONWriter *vmdesc, Error **errp)
{
#if QV_ERRP_HOOKS
    return own.vmstate_save_state(f, vmsd, opaque, vmdesc, errp);
#elif QV_VERSION >= 900
    return own.vmstate_save_state_with_err(f, vmsd, opaque, vmdesc, errp);
#else
    return own.vmstate_save_state(f, vmsd, opaque, vmdesc);
#endif
}

int qv_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
                  int version_id, Error **errp)
{
#if QV_ERRP_HOOKS
    return own.vmstate_load_state(f, vmsd, opaque, version_id, errp);
#else
    return own.vmstate_load_state(f, vmsd, opaque, version_id);
#endif
}

JSONWriter *qv_vmdesc_begin(void)
{
    JSONWriter *vmdesc = own.json_writer_new(false);

    own.json_writer_start_object(vmdesc, NULL);
    return vmdesc;
}

char *qv_vmdesc_end(JSONWriter *vmdesc)
{
    char *text;

    own.json_writer_end_object(vmdesc);
    text = g_strdup(own.json_writer_get(vmdesc));
    own.json_writer_free(vmdesc);
    return text;
}

bool qv_migration_idle(void)
{
#if QV_VERSION >= 1000
    return !own.migration_is_running();
#else
    return own.migration_is_idle();
#endif
}

bool qv_in_coroutine(void)
{
    return qv.in_vm && own.qemu_in_coroutine();
}

bool qv_load_is_incoming(void)
{
    return own.runstate_check(RUN_STATE_INMIGRATE)
        && own.migration_incoming_get_current()->state != MIGRATION_STATUS_NONE;
}

/* A migration's error can be one that came after the last byte, and did no harm. */
static bool load_has_failed(void)
{
    MigrationIncomingState *mis = own.migration_incoming_get_current();

    if (qv_undo_is_incoming()) {
        return mis->state == MIGRATION_STATUS_FAILED;
    }
#if QV_VERSION >= 1000
    if (own.migrate_get_current()->error) {
        return true;
    }
#endif
    return mis->from_src_file && qv.qemu_file_get_error(mis->from_src_file);
}

#if QV_VERSION >= 1000
/* QEMU 10 fails a good snapshot for the error that an earlier save has left behind. */
static int on_load_setup(QEMUFile *f, void *opaque, Error **errp)
{
    if (!qv_load_is_incoming()) {
        qv.error_free(qatomic_xchg(&own.migrate_get_current()->error, NULL));
    }
    return 0;
}
#endif

static int on_load_cleanup(void *opaque)
{
    qv_undo_end_load(load_has_failed());
    return 0;
}

/* Nobody writes such a section. */
static int on_load_state(QEMUFile *f, void *opaque, int version_id)
{
    return -EINVAL;
}

static void on_state_change(void *opaque, bool running, RunState state)
{
    if (running) {
        qv_undo_vm_runs();
    }
}

void qv_watch_loads(void)
{
    static const SaveVMHandlers handlers = {
#if QV_VERSION >= 1000
        .load_setup = on_load_setup,
#endif
        .load_state = on_load_state, .load_cleanup = on_load_cleanup,
    };
    static bool watching;

    if (!watching) {
        watching = true;
        own.register_savevm_live("qemu_vmstate", 0, 1, &handlers, NULL);
        own.qemu_add_vm_change_state_handler(on_state_change, NULL);
    }
}

static void vm_bql_lock(void)
{
#if QV_VERSION >= 1000
    own.bql_lock_impl(__FILE__, __LINE__);
#else
    own.qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
#endif
}

static void vm_bql_unlock(void)
{
#if QV_VERSION >= 1000
    own.bql_unlock();
#else
    own.qemu_mutex_unlock_iothread();
#endif
}

static bool vm_bql_locked(void)
{
#if QV_VERSION >= 1000
    return own.bql_locked();
#else
    return own.qemu_mutex_iothread_locked();
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

void qv_complete(VMStateDescription *vmsd, const VMStateDescription **subsections,
                 int unmigratable, int early_setup)
{
    vmsd->subsections = subsections;
    vmsd->unmigratable = unmigratable;
#if QV_VERSION >= 1000
    vmsd->early_setup = early_setup;
#endif
}

bool qv_is_early(const VMStateDescription *vmsd)
{
#if QV_VERSION >= 1000
    return vmsd->early_setup;
#else
    return false;
#endif
}

/*
 * For query-migrate, which would else have an errno at most.  The load of a
 * snapshot is no migration: it has a job to tell, and an error that stays here
 * would fail the next load in QEMU 10.
 */
static void set_migrate_error(bool saving, const char *why)
{
    Error *err = NULL;

    if (saving || own.runstate_check(RUN_STATE_INMIGRATE)) {
        qv.error_setg_internal(&err, __FILE__, __LINE__, __func__, "%s", why);
        own.migrate_set_error(own.migrate_get_current(), err);
        qv.error_free(err);
    }
}

void qv_tell(bool saving, const char *why)
{
    qv.error_report("%s", why);
    set_migrate_error(saving, why);
}

/* What a hook without an Error of its own answers; releases why, which a failure has. */
static int answer(void *opaque, const char *hook, bool saving, int ret, char *why)
{
    if (likely(ret == 0)) {
        return 0;
    }
    if (qv_hook_failed(opaque, ret, why)) {
        g_autofree char *sentence = g_strdup_printf("%s failed: %s", hook, why);

        qv_tell(saving, sentence);
    }
    g_free(why);
    return ret;
}

static int hook_post_save(void *opaque)
{
    char *why = NULL;
    int ret = qv_after_save(opaque, &why);

    return answer(opaque, "post_save", true, ret, why);
}

#if QV_ERRP_HOOKS
/* QEMU logs the Error of a save, but not that of a load which it survives. */
static bool answer_errp(void *opaque, const char *log_as, int ret, char *why, Error **errp)
{
    if (likely(ret == 0)) {
        return true;
    }
    if (qv_hook_failed(opaque, ret, why) && log_as) {
        qv.error_report("%s failed: %s", log_as, why);
    }
    qv.error_setg_internal(errp, __FILE__, __LINE__, __func__, "%s", why);
    g_free(why);
    return false;
}

static bool hook_pre_save(void *opaque, Error **errp)
{
    char *why = NULL;
    int ret = qv_take_snapshot(opaque, &why);

    return answer_errp(opaque, NULL, ret, why, errp);
}

static bool hook_pre_load(void *opaque, Error **errp)
{
    char *why = NULL;
    int ret = qv_begin_load(opaque, &why);

    return answer_errp(opaque, "pre_load", ret, why, errp);
}

static bool hook_post_load(void *opaque, int version_id, Error **errp)
{
    char *why = NULL;
    int ret = qv_commit_staging(opaque, version_id, &why);

    return answer_errp(opaque, "post_load", ret, why, errp);
}
#else
static int hook_pre_save(void *opaque)
{
    char *why = NULL;
    int ret = qv_take_snapshot(opaque, &why);

    return answer(opaque, "pre_save", true, ret, why);
}

static int hook_pre_load(void *opaque)
{
    char *why = NULL;
    int ret = qv_begin_load(opaque, &why);

    return answer(opaque, "pre_load", false, ret, why);
}

static int hook_post_load(void *opaque, int version_id)
{
    char *why = NULL;
    int ret = qv_commit_staging(opaque, version_id, &why);

    return answer(opaque, "post_load", false, ret, why);
}
#endif

void qv_set_hooks(VMStateDescription *vmsd, bool after_save)
{
    if (after_save) {
        vmsd->post_save = hook_post_save;
    }
#if QV_ERRP_HOOKS
    vmsd->pre_save_errp = hook_pre_save;
    vmsd->pre_load_errp = hook_pre_load;
    vmsd->post_load_errp = hook_post_load;
#else
    vmsd->pre_save = hook_pre_save;
    vmsd->pre_load = hook_pre_load;
    vmsd->post_load = hook_post_load;
#endif
}

static pthread_mutex_t in_process_bql = PTHREAD_MUTEX_INITIALIZER;
static __thread bool in_process_bql_held;

static void report_sink(const char *text)
{
    if (qv_reported) {
        g_string_append(qv_reported, text);
    } else {
        fputs(text, stderr);
    }
}

void qv_refuse(const char *format, ...)
{
    va_list arguments;
    char *sentence;

    va_start(arguments, format);
    sentence = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (!qv_reported) {
        qv_tell(false, sentence);
    } else if (!qv_refusal) {
        qv_refusal = g_steal_pointer(&sentence);
    }
    g_free(sentence);
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
    return own.library ? dlsym(own.library, name) : qv_find_symbol(name);
}

/* First of all: another version's QEMU lacks other functions, which is not the point. */
static int check_version(char **why)
{
    VersionInfo *version;
    bool same;

    own.qmp_query_version = resolve("qmp_query_version");
    own.qapi_free_VersionInfo = resolve("qapi_free_VersionInfo");
    if (!own.qmp_query_version || !own.qapi_free_VersionInfo) {
        *why = g_strdup("this executable shows no QEMU functions: it is no qemu-system-*, or "
                        "it was built without --enable-modules and then stripped; take one "
                        "that is not stripped, or relink it with -Wl,--export-dynamic");
        return -ENOSYS;
    }
    version = own.qmp_query_version(NULL);
    same = version->qemu->major == QEMU_VERSION_MAJOR
        && version->qemu->minor == QEMU_VERSION_MINOR;

    if (!same) {
        *why = g_strdup_printf("this QEMU is %" PRId64 ".%" PRId64 ".%" PRId64
                               ", but qemu_vmstate was built for QEMU " QEMU_VERSION,
                               version->qemu->major, version->qemu->minor,
                               version->qemu->micro);
    }
    own.qapi_free_VersionInfo(version);
    return same ? 0 : -EPROTO;
}

int qv_init(const char *library, char **why)
{
    g_autoptr(GString) missing = g_string_new(NULL);

    if (own.ready) {
        return 0;
    }
    if (library) {
        void (**sink)(const char *);

        own.library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!own.library) {
            *why = g_strdup(dlerror());
            return -ENOENT;
        }
        sink = resolve("qv_report_sink");
        if (sink) {
            *sink = report_sink;
        }
    } else {
        int ret = check_version(why);

        if (ret < 0) {
            return ret;
        }
    }
#define QV_RESOLVE(table, name)                                         \
    table.name = resolve(#name);                                        \
    if (!table.name) {                                                  \
        g_string_append(missing, " " #name);                            \
    }
#define QV_RESOLVE_SHARED(name) QV_RESOLVE(qv, name)
#define QV_RESOLVE_OWN(name) QV_RESOLVE(own, name)
    QV_SYMBOLS(QV_RESOLVE_SHARED)
    QV_OWN_SYMBOLS(QV_RESOLVE_OWN)
    if (!library) {
        QV_VM_SYMBOLS(QV_RESOLVE_SHARED)
        QV_OWN_VM_SYMBOLS(QV_RESOLVE_OWN)
    }
    if (missing->len) {
        *why = g_strdup_printf("%s lacks%s", library ? library : "this executable",
                               missing->str);
        return -ENOSYS;
    }
    if (library) {
        own.module_call_init(MODULE_INIT_QOM);
    }
    qv.in_vm = !library;
    own.ready = true;
    return 0;
}

const VMStateInfo *qv_vmstate_info(const char *name)
{
    g_autofree char *symbol = g_strdup_printf("vmstate_info_%s", name);

    return resolve(symbol);
}

static void take_bql(void)
{
    if (qv.in_vm) {
        vm_bql_lock();
    } else {
        pthread_mutex_lock(&in_process_bql);
        in_process_bql_held = true;
    }
}

static void give_bql(void)
{
    if (qv.in_vm) {
        vm_bql_unlock();
    } else {
        in_process_bql_held = false;
        pthread_mutex_unlock(&in_process_bql);
    }
}

static int bql_is_locked(void)
{
    return qv.in_vm ? vm_bql_locked() : in_process_bql_held;
}

const void *qv_bql_functions(void)
{
    static const QvBql functions = { take_bql, give_bql, bql_is_locked };

    return &functions;
}

bool qv_bql_enter(void)
{
    bool taken = !bql_is_locked();

    if (taken) {
        take_bql();
    }
    return taken;
}

void qv_bql_leave(bool taken)
{
    if (taken) {
        give_bql();
    }
}
