/*
 * The bridge's interface: the same for every QEMU.  It has declarations only, because
 * cffi reads this file without a preprocessor; include it once.
 *
 * A function that can fail returns 0, or a negative errno and a message in *errmsg,
 * which the caller releases with qv_free().
 */

enum QvCapability {
    QV_CAP_ERRP_HOOKS = 1, /* hooks report failures through an Error ** */
    QV_CAP_EARLY_SETUP = 2 /* VMStateDescription has early_setup */
};

/* An object that can be saved and loaded: its class, its hooks' data, its staging struct. */
typedef struct QvObject QvObject;

/* Bind QEMU's functions.  library: our build of QEMU's migration code, or NULL inside a QEMU. */
int qv_init(const char *library, char **errmsg);
int qv_capabilities(void);
/* Return the version of the QEMU tree whose headers this was compiled with, as "10.2.2". */
const char *qv_built_for(void);
void qv_free(void *p);
char *qv_strdup(const char *text);

/* Return vmstate_info_NAME, or NULL if this QEMU has none. */
const VMStateInfo *qv_vmstate_info(const char *name);
/*
 * Return a new VMStateInfo of the bridge's own, bounded or for a staging struct, which the caller
 * releases with qv_free(), or NULL if there is none of that name.  where, the field's path, is
 * for messages; it must outlive the info.
 */
const VMStateInfo *qv_own_info(const char *name, int bounded, const char *where);
/*
 * What saves and loads a struct as a whole, with the bytes, the JSON and the failures of QEMU's walk of
 * its description.  qv_packer_new() returns NULL if QEMU has to walk it.  size is that of the struct.
 * The description and the packers of its fields must outlive the packer.
 */
typedef struct QvPacker QvPacker;
QvPacker *qv_packer_new(const VMStateDescription *description, size_t size);
void qv_packer_free(QvPacker *packer);
/*
 * Let a packer save and load the structs of a field, which have its description.  Return the new
 * info of the field, which the caller releases with qv_free(), or NULL if QEMU has to walk the field.
 */
const VMStateInfo *qv_packer_use(const QvPacker *packer, VMStateField *field);
/* Set *field to VMSTATE_END_OF_LIST(). */
void qv_end_of_list(VMStateField *field);
/* Set *field to one without bytes and JSON, for which QEMU describes each element of an array of structs
 * that have it. */
void qv_set_varying(VMStateField *field);
/* Return whether the field has a field_exists that is not of qv_packer_use(). */
bool qv_field_asks(const VMStateField *field);
/* Set the hint that QEMU reports if an equal field differs; no effect from QEMU 11.1 on. */
void qv_set_err_hint(VMStateField *field, const char *hint);
/* Return VMS_MULTIPLY_ELEMENTS, or 0 from QEMU 11.1 on, which does not have it. */
int qv_multiply_elements(void);
/*
 * Set the members whose types differ between QEMU versions.  subsections ends with NULL;
 * early_setup has an effect only with QV_CAP_EARLY_SETUP.
 */
void qv_complete(VMStateDescription *description, const VMStateDescription **subsections,
                 int unmigratable, int early_setup);
/* The needed() of a subsection that is always in the stream. */
bool qv_always(void *opaque);

/* The hooks in which an object needs Python. */
enum QvHook {
    QV_HOOK_SNAPSHOT = 1, /* pre_save; and pre_load, for what a load preserves */
    QV_HOOK_RESTORE = 2,  /* post_load */
    QV_HOOK_POST_SAVE = 4,
    QV_HOOK_PRE_LOAD = 8,
    QV_HOOK_PREDICATES = 16, /* QEMU asks them during its walk; post_save reports failures */
    QV_HOOK_LOCK_ALL = 32,   /* Python locks all parts and calls qv_object_copy_parts() */
    QV_HOOK_NEEDED = 64,     /* Python answers with qv_object_set_left_out() */
    QV_HOOK_LOAD_COMPLETE = 128,
    QV_HOOK_LOAD_ROLLED_BACK = 256
};

/*
 * The initial content of the staging structs of a class.  It refers to bytes, which must
 * outlive it.
 */
typedef struct QvInitialImage QvInitialImage;
QvInitialImage *qv_initial_image_new(const void *bytes, size_t size);
void qv_initial_image_free(QvInitialImage *image);

/*
 * What the objects with one description and the same parts share.  description and image
 * must outlive all of them.  The class is reference-counted: qv_object_class_free() drops
 * Python's reference, and each object holds one.
 * fully_overwritten: every stream has every byte of every field, so a load needs no defaults.
 */
typedef struct QvObjectClass QvObjectClass;
QvObjectClass *qv_object_class_new(VMStateDescription *description, const QvInitialImage *image,
                                   int fully_overwritten);
void qv_object_class_free(QvObjectClass *object_class);
/*
 * Add a native part, one that C copies without Python: size bytes at offset in the staging
 * struct, behind the parts added before.  is_ref_cell: the part is guarded by the BQL and the
 * borrow count instead of a mutex.  name appears in messages, and must outlive the class.
 */
int qv_object_class_add_part(QvObjectClass *object_class, const char *name, int is_ref_cell,
                             size_t offset, size_t size);
/* Add a range that begins a load with the object's state, for fields that a stream may lack. */
int qv_object_class_preserve(QvObjectClass *object_class, size_t offset, size_t size);
/*
 * Add an array of pointers: while QEMU walks the fields, each of the count slots at slots
 * points to its element (size bytes each, from elements on), or is NULL if its byte at
 * present is 0.
 */
int qv_object_class_add_pointers(QvObjectClass *object_class, size_t slots, size_t elements,
                                 size_t present, size_t size, size_t count);
/*
 * Add a subsection of the object itself; they are numbered in the order of these calls.
 * The snapshot decides whether it is needed.  If size is not 0: it is if the size bytes at
 * offset differ from the initial ones.  Otherwise: as qv_object_set_needed() set it.
 * qv_needed_at() returns the needed() of a number, or NULL if the number is too large.
 */
int qv_object_class_add_subsection(QvObjectClass *object_class, size_t offset, size_t size);
typedef bool QvNeeded(void *opaque);
QvNeeded *qv_needed_at(int number);

/* Set the table that _state.python() returns; fast paths and snapshot batches need it. */
void qv_set_python(void *table);
/* Set the object's _state.FastPath, which must outlive the object. */
void qv_object_set_fast_path(QvObject *object, void *fast_path);
/* Return a large staging struct's pages to the system until the next save or load. */
void qv_object_release_pages(QvObject *object);
/* Copy the native parts: out of the object's state if out is set, else into it.  The caller
 * holds all the locks. */
void qv_object_copy_parts(QvObject *object, int out);
/* Whether a load of the object can still fail in a later device, so that it needs an undo
 * record; see undo_log.c. */
int qv_object_undoes(QvObject *object);
/* Set the undo record of the object's restore, from _state.hand_over(), for qv_py_roll_back(). */
void qv_object_set_undo(QvObject *object, void *undo);
/* The needed() of a device that asks Python (QV_HOOK_NEEDED); if Python fails, the save fails. */
bool qv_section_needed(void *opaque);
void qv_object_set_left_out(QvObject *object, int left_out);
/* Set whether the subsection of that number is needed. */
void qv_object_set_needed(QvObject *object, int number, int needed);
/* Make the save or load that runs fail, because a predicate failed during QEMU's walk. */
void qv_object_fail(QvObject *object, int error, const char *errmsg);

enum QvClock { QV_CLOCK_REALTIME, QV_CLOCK_VIRTUAL, QV_CLOCK_HOST, QV_CLOCK_VIRTUAL_RT };

/* A QEMUTimer in a VM, whose callback is qv_py_timer(handle). */
typedef struct QvTimer QvTimer;

QvTimer *qv_timer_new(int clock, void *handle);
void qv_timer_free(QvTimer *timer);
/* expire_time: in ns; -1: not armed. */
void qv_timer_mod_ns(QvTimer *timer, int64_t expire_time);
int64_t qv_timer_expire_time_ns(QvTimer *timer);
int64_t qv_clock_get_ns(int clock);

/* Call qv_py_call(handle) on a large stack: for Python code that C calls outside the hooks. */
int qv_call_on_large_stack(void *handle);

/*
 * Return the QvBql for _state.  Python takes the BQL through _state, which knows when to keep
 * the GIL.
 */
const void *qv_bql_functions(void);
/* The QvBridge of bridge_functions.h, for the benchmark's C, which is an extension of its own. */
const void *qv_bridge_functions(void);
/* The QvObjectFunctions for _state, with which it saves, loads and registers an object. */
const void *qv_object_functions(void);
