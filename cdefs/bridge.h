/*
 * The bridge's interface: the same for every QEMU.  Declarations only, because
 * cffi reads this file as it stands; include it once.
 *
 * A function that can fail returns 0 or a negative errno and then leaves a
 * sentence in *why, which the caller releases with qv_free().
 */

enum QvCapability {
    QV_CAP_ERRP_HOOKS = 1,      /* hooks hand their sentence to QEMU as an Error */
    QV_CAP_EARLY_SETUP = 2,     /* VMStateDescription has early_setup */
    QV_CAP_IN_VM = 4            /* inside a qemu-system-*, with a savevm list */
};

/* One registered object: its description, its hooks' data, its staging struct. */
typedef struct QvObject QvObject;

typedef struct QvBytes {
    unsigned char *data;        /* owner: the caller, release with qv_free() */
    size_t size;
} QvBytes;

/* library: our build of QEMU's migration code, or NULL inside a QEMU. */
int qv_init(const char *library, char **why);
int qv_capabilities(void);
/* "10.2.2": of the tree whose headers this was compiled with. */
const char *qv_built_for(void);
void qv_free(void *p);
char *qv_strdup(const char *text);

/* vmstate_info_NAME, or NULL if this QEMU has none. */
const VMStateInfo *qv_vmstate_info(const char *name);
/* VMSTATE_END_OF_LIST() */
void qv_end_of_list(VMStateField *field);

/*
 * description and image must outlive the object.  image: size bytes, what the
 * staging struct holds before each save and load.  handle comes back in the
 * callbacks; trampoline: whether there is anything for them to do.
 */
QvObject *qv_object_new(VMStateDescription *description, const void *image, size_t size,
                        void *handle, int trampoline);
void qv_object_free(QvObject *object);
void *qv_object_staging(QvObject *object);
/*
 * A part that C copies by itself: size bytes at live, which belong at offset in
 * the staging struct.  cell: its lock (QvCell); is_ref_cell: guarded by the BQL
 * and the borrow count instead of the mutex.  name: for sentences.
 */
int qv_object_add_part(QvObject *object, const char *name, void *cell, int is_ref_cell,
                       void *live, size_t offset, size_t size);

/* vmstate_save_state() into memory; vmdesc: where the JSON goes, or NULL. */
int qv_save(QvObject *object, QvBytes *out, char **vmdesc, char **why);
/* vmstate_load_state() of exactly size bytes. */
int qv_load(QvObject *object, const unsigned char *data, size_t size, int version_id,
            char **why);

/* vmstate_register_with_alias_id() and vmstate_unregister(); take the BQL if need be. */
int qv_register(QvObject *object, uint32_t instance_id, char **why);
int qv_unregister(QvObject *object, char **why);

void qv_bql_lock(void);
void qv_bql_unlock(void);
int qv_bql_locked(void);
