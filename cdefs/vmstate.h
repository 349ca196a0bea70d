/* migration/vmstate.h, as far as Python fills it; the tree's header has the truth. */

typedef struct VMStateInfo VMStateInfo;
typedef struct VMStateDescription VMStateDescription;

enum VMStateFlags {
    VMS_SINGLE, VMS_POINTER, VMS_ARRAY, VMS_STRUCT, VMS_BUFFER, ...
};

typedef enum {
    MIG_PRI_DEFAULT, MIG_PRI_IOMMU, MIG_PRI_PCI_BUS, MIG_PRI_VIRTIO_MEM,
    MIG_PRI_GICV3_ITS, MIG_PRI_GICV3, MIG_PRI_MAX, ...
} MigrationPriority;

typedef struct VMStateField {
    const char *name;
    size_t offset;
    size_t size;
    int num;
    const VMStateInfo *info;
    enum VMStateFlags flags;
    const VMStateDescription *vmsd;
    int version_id;
    ...;
} VMStateField;

struct VMStateDescription {
    const char *name;
    int version_id;
    int minimum_version_id;
    MigrationPriority priority;
    const VMStateField *fields;
    ...;
};
