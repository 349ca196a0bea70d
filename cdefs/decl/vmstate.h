/* The members of migration/vmstate.h that Python fills; cffi takes the layout from QEMU's header. */

typedef struct VMStateInfo VMStateInfo;
typedef struct VMStateDescription VMStateDescription;

enum VMStateFlags {
    VMS_SINGLE,
    VMS_ARRAY,
    VMS_STRUCT,
    VMS_BUFFER,
    VMS_ARRAY_OF_POINTER,
    VMS_VARRAY_UINT8,
    VMS_VARRAY_UINT16,
    VMS_VARRAY_UINT32,
    VMS_VARRAY_INT32,
    VMS_VBUFFER,
    VMS_MULTIPLY,
    VMS_VSTRUCT,
    VMS_MUST_EXIST,
    ...
};

typedef enum {
    MIG_PRI_DEFAULT,
    MIG_PRI_IOMMU,
    MIG_PRI_PCI_BUS,
    MIG_PRI_VIRTIO_MEM,
    MIG_PRI_GICV3_ITS,
    MIG_PRI_GICV3,
    MIG_PRI_MAX,
    ...
} MigrationPriority;

typedef struct VMStateField {
    const char *name;
    size_t offset;
    size_t size;
    size_t start;
    int num;
    size_t num_offset;
    size_t size_offset;
    const VMStateInfo *info;
    enum VMStateFlags flags;
    const VMStateDescription *vmsd;
    int version_id;
    int struct_version_id;
    bool (*field_exists)(void *opaque, int version_id);
    ...;
} VMStateField;

struct VMStateDescription {
    const char *name;
    int version_id;
    int minimum_version_id;
    MigrationPriority priority;
    bool (*needed)(void *opaque);
    const VMStateField *fields;
    /* subsections, which 9.0 declares with one more const, and the hooks: see bridge.h. */
    ...;
};
