/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Binds the bridge to QEMU's code.
 *
 * The bridge does not link to QEMU.  qv_init() looks each symbol up, in our build of the
 * migration code or in the running qemu-system-*, so that one module serves both, even if
 * QEMU exports nothing.
 */
#include "bridge/qemu_version.h"
#include "bridge/symbols.h"
#include <dlfcn.h>

QvQemu qv;
GString *qv_reported;
QvQemuInternal qv_internal;

static void *library_handle; /* owner: the process, never closed; NULL in a VM */
static bool ready;

int qv_save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, JSONWriter *vmdesc,
                  Error **errp)
{
#if QV_ERRP_HOOKS
    return qv_internal.vmstate_save_state(f, vmsd, opaque, vmdesc, errp);
#elif QV_VERSION >= 900
    return qv_internal.vmstate_save_state_with_err(f, vmsd, opaque, vmdesc, errp);
#else
    return qv_internal.vmstate_save_state(f, vmsd, opaque, vmdesc);
#endif
}

int qv_load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque, int version_id,
                  Error **errp)
{
#if QV_ERRP_HOOKS
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
#if QV_VERSION >= 1000
    return !qv_internal.migration_is_running();
#else
    return qv_internal.migration_is_idle();
#endif
}

bool qv_in_coroutine(void)
{
    return qv.in_vm && qv_internal.qemu_in_coroutine();
}

bool qv_expects_incoming(void)
{
    return qv_internal.runstate_check(RUN_STATE_INMIGRATE);
}

bool qv_load_is_incoming(void)
{
    return qv_expects_incoming()
           && qv_internal.migration_incoming_get_current()->state != MIGRATION_STATUS_NONE;
}

void qv_set_migrate_error(const char *message)
{
    Error *err = NULL;

    qv.error_setg_internal(&err, __FILE__, __LINE__, __func__, "%s", message);
    qv_internal.migrate_set_error(qv_internal.migrate_get_current(), err);
    qv.error_free(err);
}

void qv_end_of_list(VMStateField *field)
{
    *field = (VMStateField)VMSTATE_END_OF_LIST();
}

int qv_capabilities(void)
{
    return (QV_ERRP_HOOKS ? QV_CAP_ERRP_HOOKS : 0) | (QV_VERSION >= 1000 ? QV_CAP_EARLY_SETUP : 0)
           | (qv.in_vm ? QV_CAP_IN_VM : 0);
}

void qv_complete(VMStateDescription *vmsd, const VMStateDescription **subsections, int unmigratable,
                 int early_setup)
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

static void report_sink(const char *text)
{
    if (qv_reported) {
        g_string_append(qv_reported, text);
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
    same = version->qemu->major == QEMU_VERSION_MAJOR && version->qemu->minor == QEMU_VERSION_MINOR;

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
    ready = true;
    return 0;
}

const VMStateInfo *qv_vmstate_info(const char *name)
{
    g_autofree char *symbol = g_strdup_printf("vmstate_info_%s", name);

    return resolve(symbol);
}
