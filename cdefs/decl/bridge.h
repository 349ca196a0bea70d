/*
 * The bridge's interface: the same for every QEMU.  Declarations only, because
 * cffi reads this file as it stands; include it once.
 *
 * A function that can fail returns 0 or a negative errno and then leaves a
 * sentence in *errmsg, which the caller releases with qv_free().
 */

enum QvCapability {
    QV_CAP_ERRP_HOOKS = 1,  /* hooks hand their sentence to QEMU as an Error */
    QV_CAP_EARLY_SETUP = 2, /* VMStateDescription has early_setup */
    QV_CAP_IN_VM = 4        /* inside a qemu-system-*, with a savevm list */
};

/* One registered object: its description, its hooks' data, its staging struct. */
typedef struct QvObject QvObject;

typedef struct QvBytes {
    unsigned char *data; /* owner: the caller, release with qv_free() */
    size_t size;
} QvBytes;

/* library: our build of QEMU's migration code, or NULL inside a QEMU. */
int qv_init(const char *library, char **errmsg);
int qv_capabilities(void);
/* "10.2.2": of the tree whose headers this was compiled with. */
const char *qv_built_for(void);
void qv_free(void *p);
char *qv_strdup(const char *text);

/* vmstate_info_NAME, or NULL if this QEMU has none. */
const VMStateInfo *qv_vmstate_info(const char *name);
/* As that, with limits or for a staging struct; see vmstate_infos.c. */
const VMStateInfo *qv_own_info(const char *name, int bounded);
/* VMSTATE_END_OF_LIST() */
void qv_end_of_list(VMStateField *field);
/*
 * The members whose types are not the same in every version.  subsections: ends
 * with NULL; early_setup: only where QV_CAP_EARLY_SETUP says that there is one.
 */
void qv_complete(VMStateDescription *description, const VMStateDescription **subsections,
                 int unmigratable, int early_setup);
/* A subsection's needed: yes. */
bool qv_always(void *opaque);

/* Which hooks have something for Python to do. */
enum QvHook {
    QV_HOOK_SNAPSHOT = 1, /* pre_save, and before a load what is to be kept */
    QV_HOOK_RESTORE = 2,  /* post_load */
    QV_HOOK_POST_SAVE = 4,
    QV_HOOK_PRE_LOAD = 8,
    QV_HOOK_PREDICATES = 16, /* while C walks; post_save has their failures */
    QV_HOOK_LOCK_ALL = 32,   /* Python locks all parts and calls qv_object_copy_parts() */
    QV_HOOK_NEEDED = 64      /* answers with qv_object_set_left_out() */
};

/*
 * What the staging structs of a class hold at rest; it keeps where bytes are, so
 * they must outlive it.
 */
typedef struct QvInitialImage QvInitialImage;
QvInitialImage *qv_initial_image_new(const void *bytes, size_t size);
void qv_initial_image_free(QvInitialImage *image);

/*
 * What the objects of a description that have the same parts share.  description and image
 * must be there as long as one of them is used; the kind itself is freed after the last one.
 * whole: every stream has every byte of every field, and a load needs no defaults.
 */
typedef struct QvObjectClass QvObjectClass;
QvObjectClass *qv_object_class_new(VMStateDescription *description, const QvInitialImage *image,
                                   int fully_overwritten);
void qv_object_class_free(QvObjectClass *object_class);
/*
 * A part that C copies by itself: size bytes, which belong at offset in the staging struct,
 * behind the parts that were added before.  is_ref_cell: guarded by the BQL and the borrow
 * count instead of a mutex.  name: for sentences; must outlive the kind.
 */
int qv_object_class_add_part(QvObjectClass *object_class, const char *name, int is_ref_cell,
                             size_t offset, size_t size);
/* Live memory that a load begins with: what the stream lacks stays. */
int qv_object_class_preserve(QvObjectClass *object_class, size_t offset, size_t size);
/*
 * An array of pointers: count slots at slots point to elements of so many bytes
 * while C walks them, and are NULL where the byte at present is 0.
 */
int qv_object_class_add_pointers(QvObjectClass *object_class, size_t slots, size_t elements,
                                 size_t present, size_t size, size_t count);
/*
 * Which of an object's own subsections are needed is known when its snapshot is
 * taken.  size is not 0: a subsection is if so many bytes at offset differ from
 * those at rest; else as qv_object_set_needed() says.  They are numbered as they are
 * added, for qv_needed_at(), which is NULL where there are too many.
 */
int qv_object_class_add_subsection(QvObjectClass *object_class, size_t offset, size_t size);
typedef bool QvNeeded(void *opaque);
QvNeeded *qv_needed_at(int number);

/*
 * handle comes back in the callbacks; hooks: of QvHook.  NULL: there is no memory for a
 * staging struct.
 */
QvObject *qv_object_new(QvObjectClass *object_class, void *handle, int hooks);
/* Gives its description the hooks that it needs; for each new object. */
void qv_object_set_hooks(QvObject *object);
void qv_object_free(QvObject *object);
/* Where its kind's part of that number lies: lock (QvCell) and memory, which outlive it. */
void qv_object_set_part(QvObject *object, size_t index, void *cell, void *memory);
void *qv_object_staging(QvObject *object);
/*
 * The fast path to its snapshot and restore: a _state.FastPath, which must
 * outlive the object.  It needs the table of _state.python().
 */
void qv_set_python(void *table);
void qv_object_set_fast_path(QvObject *object, void *fast_path);
/* Gives a large staging struct's memory back until the next save or load. */
void qv_object_release_pages(QvObject *object);
/* What C copies, from the live memory (out) or to it; the caller has all the locks. */
void qv_object_copy_parts(QvObject *object, int out);
/* A load of the whole savevm list runs, which may fail later: see undo_log.c. */
int qv_object_undoes(QvObject *object);
/* What rolls its restore back: an object of _state.hand_over(), for qv_py_roll_back(). */
void qv_object_set_undo(QvObject *object, void *undo);
/* A needed that asks Python, by QV_HOOK_NEEDED; one that fails lets the save fail. */
bool qv_section_needed(void *opaque);
void qv_object_set_left_out(QvObject *object, int left_out);
/* Whether the subsection of that number is needed. */
void qv_object_set_needed(QvObject *object, int number, int needed);
/* A predicate failed while C walked: the save or load fails too. */
void qv_object_fail(QvObject *object, int error, const char *errmsg);

/* vmstate_save_state() into memory; vmdesc: where the JSON goes, or NULL. */
int qv_save(QvObject *object, QvBytes *out, char **vmdesc, char **errmsg);
/* vmstate_load_state() of exactly size bytes. */
int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id,
            char **errmsg);

/* vmstate_register_with_alias_id() and vmstate_unregister(); take the BQL if need be. */
int qv_register(QvObject *object, uint32_t instance_id, char **errmsg);
int qv_unregister(QvObject *object, char **errmsg);

enum QvClock { QV_CLOCK_REALTIME, QV_CLOCK_VIRTUAL, QV_CLOCK_HOST, QV_CLOCK_VIRTUAL_RT };

/* A QEMUTimer in a VM; handle comes back in qv_py_timer(). */
typedef struct QvTimer QvTimer;

QvTimer *qv_timer_new(int clock, void *handle);
void qv_timer_free(QvTimer *timer);
/* expire_time in ns, -1: not armed. */
void qv_timer_mod_ns(QvTimer *timer, int64_t expire_time);
int64_t qv_timer_expire_time_ns(QvTimer *timer);
int64_t qv_clock_get_ns(int clock);

/* qv_py_call(handle) where there is stack for it; for what C does not call by way of a hook. */
int qv_call_on_large_stack(void *handle);

/* The QvBql of bql.h: Python takes the BQL by way of _state, which knows when to keep the GIL. */
const void *qv_bql_functions(void);
/* The QvBridge of bridge_functions.h, for the benchmark's C, which is an extension of its own. */
const void *qv_bridge_functions(void);
