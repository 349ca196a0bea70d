/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boots CPython inside a qemu-system-*, either as a TCG plugin or preloaded, and calls
 * qemu_vmstate/embed/boot.py there.
 *
 * libpython is not linked but opened at boot: a preloaded library is also mapped into every
 * child of the shell, and a plugin is opened RTLD_LOCAL, so Python's extension modules would
 * not find libpython's symbols.
 */
#include <Python.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/symbols.h"
#include "shim/child_signals.h"
#include "shim/python_location.h"
#include "shared/qemu_abi.h"
#include "shim/standard_descriptors.h"

#define SCRIPT_VARIABLE "QEMU_VMSTATE_SCRIPT"

#define EXPORT __attribute__((visibility("default")))

/* on_load() sets the one that the running QEMU loads. */
EXPORT int qemu_plugin_version = 1;

/* "10.0.2", empty where QEMU shows no functions. */
static char qemu_version[64];

/* QEMU's id of this plugin; 0, which is none, if this library is preloaded. */
static QvPluginId plugin_id;

/* clang-format off */
#define PYTHON_SYMBOLS(X)                                               \
    X(PyErr_Print) X(PyEval_SaveThread) X(PyGILState_Ensure)            \
    X(PyImport_ImportModule) X(PyList_Append) X(PyList_New)             \
    X(PyLong_AsLong) X(PyObject_CallMethod) X(PyUnicode_DecodeFSDefault) \
    X(Py_DecodeLocale) X(Py_DecRef) X(Py_InitializeEx) X(Py_IsInitialized) \
    X(Py_SetProgramName) X(Py_Version)
/* clang-format on */

#pragma GCC diagnostic push
/* Py_SetProgramName() is deprecated, but only it can select a virtual environment in the same
 * way from 3.11 to 3.14, without a struct whose layout depends on the version. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static struct {
#define MEMBER(name) __typeof__(name) *name;
    PYTHON_SYMBOLS(MEMBER)
#undef MEMBER
} py;
#pragma GCC diagnostic pop

static void complain(const char *what, const char *errmsg)
{
    fprintf(stderr, "qemu_vmstate: %s: %s\n", what, errmsg);
}

static bool open_libpython(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* owner: the process */

    if (!library) {
        complain("libpython cannot be loaded; name a shared one with libpython=PATH", dlerror());
        return false;
    }
#define RESOLVE(name)                                                                          \
    *(void **)&py.name = dlsym(library, #name);                                                \
    if (!py.name) {                                                                            \
        complain(path, "is a libpython without " #name "; CPython 3.11 to 3.14 is supported"); \
        return false;                                                                          \
    }
    PYTHON_SYMBOLS(RESOLVE)
#undef RESOLVE
    return true;
}

/* Return the value of KEY=value among the options, else the variable's, else fallback. */
static const char *setting(int argc, char **argv, const char *key, const char *variable,
                           const char *fallback)
{
    const char *value = getenv(variable);
    size_t length = strlen(key);
    int i;

    for (i = 0; i < argc; i++) {
        if (!strncmp(argv[i], key, length) && argv[i][length] == '=') {
            value = argv[i] + length + 1;
        }
    }
    return value && *value ? value : fallback;
}

/* The process that Python booted in; a script may fork others. */
static pid_t qemu_process;

/*
 * Run Python's exit functions and flush its files.  Python is not finalised, because that waits
 * for threads that may never end.  The GIL is kept, so that they do not run during the exit.
 *
 * A forked process ends at once: QEMU's exit functions, which come after this, would remove
 * QEMU's files, and the forking thread may have released the GIL.
 */
static void at_exit(int status, void *unused)
{
    PyObject *module, *result = NULL;

    (void)unused;
    if (getpid() != qemu_process) {
        _exit(status);
    }
    py.PyGILState_Ensure();
    module = py.PyImport_ImportModule("qemu_vmstate.embed.boot");
    if (module) {
        result = py.PyObject_CallMethod(module, "at_exit", NULL);
    }
    if (!result) {
        py.PyErr_Print();
    }
}

static int run_boot_module(int argc, char **argv)
{
    PyObject *options = py.PyList_New(0), *module, *status = NULL;
    long ret = 1;
    int i;

    for (i = 0; options && i < argc; i++) {
        PyObject *option = py.PyUnicode_DecodeFSDefault(argv[i]);

        if (!option || py.PyList_Append(options, option) < 0) {
            py.PyErr_Print();
            return 1;
        }
        py.Py_DecRef(option);
    }
    module = py.PyImport_ImportModule("qemu_vmstate.embed.boot");
    if (module) {
        status = py.PyObject_CallMethod(module, "main", "OsK", options, qemu_version,
                                        (unsigned long long)plugin_id);
    }
    if (status) {
        ret = py.PyLong_AsLong(status);
        py.Py_DecRef(status);
    } else {
        py.PyErr_Print();
    }
    py.Py_DecRef(options);
    return ret;
}

static int boot(int argc, char **argv)
{
    const char *python, *libpython;
    QvPythonLocation own;
    wchar_t *program; /* owner: Python, for as long as it runs */
    int ret;

    qv_locate_python(&qemu_plugin_version, &own);
    python = setting(argc, argv, "python", "QEMU_VMSTATE_PYTHON", own.python);
    libpython = setting(argc, argv, "libpython", "QEMU_VMSTATE_LIBPYTHON", own.libpython);
    if (py.Py_IsInitialized && py.Py_IsInitialized()) {
        complain("Python runs in this QEMU already", "load the shim once only, and start "
                                                     "everything from one script");
        return 1;
    }
    if (!open_libpython(libpython)) {
        return 1;
    }
    program = py.Py_DecodeLocale(python, NULL);
    if (!program) {
        complain(python, "the path cannot be decoded in this locale");
        return 1;
    }
    if (!qv_keep_standard_descriptors()) {
        complain("descriptors 0 to 2 cannot be kept open", "this QEMU does not import close()");
        return 1;
    }
    /* Before Python starts threads. */
    qv_free_children_of_qemus_signals((const void *)py.Py_InitializeEx);
    py.Py_SetProgramName(program);
    py.Py_InitializeEx(0);
    ret = run_boot_module(argc, argv);
    py.PyEval_SaveThread();
    qemu_process = getpid();
    on_exit(at_exit, NULL);
    return ret;
}

/* ------------------------------------------------------------- -plugin */

EXPORT int qemu_plugin_install(QvPluginId id, const void *info, int argc, char **argv)
{
    (void)info;
    plugin_id = id;
    return boot(argc, argv) ? -1 : 0;
}

/* --------------------------------------------------------- LD_PRELOAD */

/*
 * Remove this library from LD_PRELOAD, so that QEMU's children do not inherit it, and return
 * whether it was there.  It must not need glib, because it is mapped into shells too.
 */
static bool remove_from_preload(void)
{
    char *list = strdup(getenv("LD_PRELOAD") ?: ""); /* owner: this call */
    char *others = calloc(1, strlen(list) + 1);      /* owner: this call */
    char self_path[PATH_MAX], path[PATH_MAX], *entry, *state;
    bool found = false;
    Dl_info self;

    if (dladdr(&qemu_plugin_version, &self) && realpath(self.dli_fname, self_path)) {
        for (entry = strtok_r(list, ": ", &state); entry; entry = strtok_r(NULL, ": ", &state)) {
            if (realpath(entry, path) && !strcmp(path, self_path)) {
                found = true;
                continue;
            }
            if (*others) {
                strcat(others, ":");
            }
            strcat(others, entry);
        }
    }
    if (found && *others) {
        setenv("LD_PRELOAD", others, 1);
    } else if (found) {
        unsetenv("LD_PRELOAD");
    }
    free(others);
    free(list);
    return found;
}

static void machine_ready(QvNotifier *notifier, void *data)
{
    (void)notifier;
    (void)data;
    if (boot(0, NULL)) {
        exit(1);
    }
}

/*
 * Python boots only when the machine is ready: -daemonize forks before that, and Python's
 * threads would not exist in the forked process.
 */
static void add_machine_ready_notifier(void)
{
    static QvNotifier notifier = { .notify = machine_ready };
    void (*add)(QvNotifier *) = qv_find_symbol("qemu_add_machine_init_done_notifier");

    if (!add) {
        complain("preload", "this QEMU has no qemu_add_machine_init_done_notifier");
        exit(1);
    }
    add(&notifier);
}

/* ----------------------------------------------------------------- both */

/* Return a version of the plugin API that this QEMU loads; none is loaded by all of them. */
static int plugin_version(const QvVersionTriple *qemu)
{
    /* A tree under development has the API of the next release. */
    int64_t release = qemu->major * 100 + qemu->minor + (qemu->micro >= 50);

    if (release < 900) {
        return 1;
    }
    return release < 1101 ? 2 : 7;
}

/* Set qemu_version and qemu_plugin_version; without effect where QEMU shows no functions. */
static void read_version(void)
{
    QvVersionInfo *(*query)(void *) = qv_find_symbol("qmp_query_version");
    void (*release)(QvVersionInfo *) = qv_find_symbol("qapi_free_VersionInfo");
    QvVersionInfo *version; /* owner: this call */

    if (!query || !release) {
        return;
    }
    version = query(NULL);
    snprintf(qemu_version, sizeof(qemu_version), "%" PRId64 ".%" PRId64 ".%" PRId64,
             version->qemu->major, version->qemu->minor, version->qemu->micro);
    qemu_plugin_version = plugin_version(version->qemu);
    release(version);
}

/* Recognize an emulator by its file name, where it has neither plugins nor symbols. */
static bool is_system_emulator(void)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    const char *name;

    path[length > 0 ? length : 0] = '\0';
    name = strrchr(path, '/');
    return name && (!strncmp(name, "/qemu-system-", 13) || !strcmp(name, "/qemu-kvm"));
}

static void __attribute__((constructor)) on_load(void)
{
    void (*register_init)(void (*)(void), int);
    bool plugin = !getenv(SCRIPT_VARIABLE);

    /* This is also loaded into the shells and tools around a preloaded QEMU, and qemu-img has
     * module inits as well.  Only a system emulator has this function. */
    if (!qv_find_symbol("vmstate_register_with_alias_id")) {
        if (!plugin
            && (dlsym(RTLD_DEFAULT, "qemu_plugin_register_vcpu_init_cb") || is_system_emulator())) {
            complain("preload", "this QEMU shows no vmstate functions: take one that is not "
                                "stripped, or relink it with -Wl,--export-dynamic");
            exit(1);
        }
        /* So that boot() is called, and says why not; 9.0 was the first to have this function. */
        qemu_plugin_version = dlsym(RTLD_DEFAULT, "qemu_plugin_scoreboard_new") ? 2 : 1;
        return;
    }
    read_version();
    if (plugin || !remove_from_preload()) {
        return;
    }
    register_init = qv_find_symbol("register_module_init");
    if (!register_init) {
        complain("preload", "this QEMU has no register_module_init");
        exit(1);
    }
    register_init(add_machine_ready_notifier, QV_MODULE_INIT_OPTS);
}
