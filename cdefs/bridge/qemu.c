/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binds the bridge to QEMU's code.
 *
 * The bridge does not link to QEMU.  qv_init() looks each symbol up, in our build of the
 * migration code or in the running qemu-system-*, so that one module serves both, even if
 * QEMU exports nothing.
 */
#include "bridge/qemu_internal.h"
#include "bridge/symbols.h"
#include <dlfcn.h>

QvQemu qv;
GString **qv_reported;
QvQemuInternal qv_internal;

static void *library_handle; /* owner: the process, never closed; NULL in a VM */
static bool ready;

int qv_save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, JSONWriter *vmdesc,
                  Error **errp)
{
#if QV_HAS_ERRP_HOOKS
    return qv_internal.vmstate_save_state(f, vmsd, opaque, vmdesc, errp);
#elif QV_HAS_SAVE_WITH_ERR
    return qv_internal.vmstate_save_state_with_err(f, vmsd, opaque, vmdesc, errp);
#else
    return qv_internal.vmstate_save_state(f, vmsd, opaque, vmdesc);
#endif
}

int qv_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, int version_id,
                  Error **errp)
{
#if QV_HAS_ERRP_HOOKS
    return qv_internal.vmstate_load_state(f, vmsd, opaque, version_id, errp);
#else
    return qv_internal.vmstate_load_state(f, vmsd, opaque, version_id);
#endif
}

JSONWriter *qv_vmdesc_begin(void)
{
    JSONWriter *vmdesc = qv_internal.json_writer_new(false);

    qv_internal.json_writer_start_object(vmdesc, NULL);
    return vmdesc;
}

char *qv_vmdesc_end(JSONWriter *vmdesc)
{
    char *text;

    qv_internal.json_writer_end_object(vmdesc);
    text = g_strdup(qv_internal.json_writer_get(vmdesc));
    qv_internal.json_writer_free(vmdesc);
    return text;
}

bool qv_migration_idle(void)
{
#if QV_HAS_IS_RUNNING
    return !qv_internal.migration_is_running();
#else
    return qv_internal.migration_is_idle();
#endif
}

bool qv_in_coroutine(void)
{
    return qv.in_vm && qv_internal.qemu_in_coroutine();
}

bool qv_in_postcopy(void)
{
    return qv_internal.migration_in_incoming_postcopy();
}

bool qv_expects_incoming(void)
{
    return qv_internal.runstate_check(RUN_STATE_INMIGRATE);
}

void qv_set_migrate_error(const char *message)
{
    Error *err = NULL;

    qv.error_setg_internal(&err, __FILE__, __LINE__, __func__, "%s", message);
#if QV_HAS_ERROR_PROPAGATE
    qv_internal.migrate_error_propagate(qv_internal.migrate_get_current(), err);
#else
    qv_internal.migrate_set_error(qv_internal.migrate_get_current(), err);
    qv.error_free(err);
#endif
}

#if QV_RESULT_BEFORE_CLEANUP
bool qv_migrate_has_error(void)
{
    return qv_internal.migrate_has_error(qv_internal.migrate_get_current());
}
#endif

#if QV_STALE_ERROR_FAILS_LOAD
/*
 * QEMU shows no function that clears the error of the last migration, so that this struct is
 * accessed by offset.  Its layout depends on QEMU's configuration: it is accessed only if an error
 * that was set has appeared at this offset, when there was none before.
 */
static bool error_offset_is_right;

static Error **migrate_error(void)
{
    return &qv_internal.migrate_get_current()->error;
}

static void check_error_offset(Notifier *notifier, void *unused)
{
    if (qv_migrate_has_error() || qatomic_read(migrate_error())) {
        return;
    }
    qv_set_migrate_error("qemu_vmstate looks where QEMU stores this");
    if (qatomic_read(migrate_error())) {
        qv.error_free(qatomic_xchg(migrate_error(), NULL));
        error_offset_is_right = !qv_migrate_has_error();
    }
}

/* There are migrations from the time when the machine is ready. */
static void plan_check_of_error_offset(void)
{
    static Notifier notifier = { .notify = check_error_offset };

    qv_internal.qemu_add_machine_init_done_notifier(&notifier);
}

int qv_clear_stale_error(char **errmsg)
{
    if (!qv_migrate_has_error()) {
        return 0;
    }
    if (!error_offset_is_right) {
        *errmsg = g_strdup(
            "qemu_vmstate cannot clear the error of an earlier migration or save, for which QEMU "
            "would fail this load, because it did not find the error in MigrationState at its "
            "start: this QEMU may be configured differently from the QEMU " QEMU_VERSION
            " that it was built for; build it for this QEMU, or start QEMU anew");
        return -EPROTO;
    }
    qv.error_free(qatomic_xchg(migrate_error(), NULL));
    return 0;
}
#else
int qv_clear_stale_error(char **errmsg)
{
    return 0;
}
#endif

void qv_end_of_list(VMStateField *field)
{
    *field = (VMStateField)VMSTATE_END_OF_LIST();
}

void qv_set_err_hint(VMStateField *field, const char *hint)
{
#if QV_HAS_ERR_HINT
    field->err_hint = hint;
#endif
}

int qv_multiply_elements(void)
{
#if QV_HAS_MULTIPLY_ELEMENTS
    return VMS_MULTIPLY_ELEMENTS;
#else
    return 0;
#endif
}

bool qv_refuses_element_for_null(void)
{
    return QV_REFUSES_ELEMENT_FOR_NULL;
}

int qv_get(const VMStateInfo *info, QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
#if QV_INFOS_SET_ERROR
    return info->load(f, pv, size, field, NULL) ? 0 : -EINVAL;
#else
    return info->get(f, pv, size, field);
#endif
}

int qv_put(const VMStateInfo *info, QEMUFile *f, void *pv, size_t size, const VMStateField *field,
           JSONWriter *vmdesc)
{
#if QV_INFOS_SET_ERROR
    return info->save(f, pv, size, field, vmdesc, NULL) ? 0 : -EINVAL;
#else
    return info->put(f, pv, size, field, vmdesc);
#endif
}

int qv_capabilities(void)
{
    return (QV_HAS_ERRP_HOOKS ? QV_CAP_ERRP_HOOKS : 0)
           | (QV_HAS_EARLY_SETUP ? QV_CAP_EARLY_SETUP : 0);
}

void qv_complete(VMStateDescription *vmsd, const VMStateDescription **subsections, int unmigratable,
                 int early_setup)
{
    vmsd->subsections = subsections;
    vmsd->unmigratable = unmigratable;
#if QV_HAS_EARLY_SETUP
    vmsd->early_setup = early_setup;
#endif
}

bool qv_is_early(const VMStateDescription *vmsd)
{
#if QV_HAS_EARLY_SETUP
    return vmsd->early_setup;
#else
    return false;
#endif
}

static void report_sink(const char *text)
{
    if (qv_reported) {
        *qv_reported = *qv_reported ? *qv_reported : g_string_new(NULL);
        g_string_append(*qv_reported, text);
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
    return library_handle ? dlsym(library_handle, name) : qv_find_symbol(name);
}

/* A development tree changes without a new number, so that only the same tree will do. */
static bool is_built_for(const VersionTriple *running)
{
    bool development = running->micro >= 50 || QEMU_VERSION_MICRO >= 50;

    return running->major == QEMU_VERSION_MAJOR && running->minor == QEMU_VERSION_MINOR
           && (!development || running->micro == QEMU_VERSION_MICRO);
}

/* To be called first, because another version lacks functions, which would be a confusing error. */
static int check_version(char **errmsg)
{
    VersionInfo *version;
    bool same;

    qv_internal.qmp_query_version = resolve("qmp_query_version");
    qv_internal.qapi_free_VersionInfo = resolve("qapi_free_VersionInfo");
    if (!qv_internal.qmp_query_version || !qv_internal.qapi_free_VersionInfo) {
        *errmsg = g_strdup("this executable shows no QEMU functions: it is no qemu-system-*, or "
                           "it was built without --enable-modules and then stripped; take one "
                           "that is not stripped, or relink it with -Wl,--export-dynamic");
        return -ENOSYS;
    }
    version = qv_internal.qmp_query_version(NULL);
    same = is_built_for(version->qemu);
    if (!same) {
        *errmsg = g_strdup_printf("this QEMU is %" PRId64 ".%" PRId64 ".%" PRId64
                                  ", but qemu_vmstate was built for QEMU " QEMU_VERSION,
                                  version->qemu->major, version->qemu->minor, version->qemu->micro);
    }
    qv_internal.qapi_free_VersionInfo(version);
    return same ? 0 : -EPROTO;
}

int qv_init(const char *library, char **errmsg)
{
    g_autoptr(GString) missing = g_string_new(NULL);

    if (ready) {
        return 0;
    }
    if (library) {
        void (**sink)(const char *);

        library_handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!library_handle) {
            *errmsg = g_strdup(dlerror());
            return -ENOENT;
        }
        sink = resolve("qv_report_sink");
        if (sink) {
            *sink = report_sink;
        }
    } else {
        int ret = check_version(errmsg);

        if (ret < 0) {
            return ret;
        }
    }
#define QV_RESOLVE(table, name)              \
    table.name = resolve(#name);             \
    if (!table.name) {                       \
        g_string_append(missing, " " #name); \
    }
#define QV_RESOLVE_SHARED(name) QV_RESOLVE(qv, name)
#define QV_RESOLVE_INTERNAL(name) QV_RESOLVE(qv_internal, name)
    QV_SYMBOLS(QV_RESOLVE_SHARED)
    QV_INTERNAL_SYMBOLS(QV_RESOLVE_INTERNAL)
    if (!library) {
        QV_VM_SYMBOLS(QV_RESOLVE_SHARED)
        QV_INTERNAL_VM_SYMBOLS(QV_RESOLVE_INTERNAL)
    }
    if (missing->len) {
        *errmsg =
            g_strdup_printf("%s lacks%s", library ? library : "this executable", missing->str);
        return -ENOSYS;
    }
    if (library) {
        qv_internal.module_call_init(MODULE_INIT_QOM);
    }
    qv.in_vm = !library;
#if QV_STALE_ERROR_FAILS_LOAD
    if (qv.in_vm) {
        plan_check_of_error_offset();
    }
#endif
    ready = true;
    return 0;
}

const VMStateInfo *qv_vmstate_info(const char *name)
{
    g_autofree char *symbol = g_strdup_printf("vmstate_info_%s", name);

    return resolve(symbol);
}
