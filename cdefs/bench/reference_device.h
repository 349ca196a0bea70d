/*
 * Devices written in C, to measure the Python ones against, and the stop watch
 * for both.  Read by cffi as it stands, like bridge.h.
 */

typedef struct VMStateDescription VMStateDescription;

/* bridge_functions: what qv_bridge_functions() of the bridge returned, before all else. */
void qv_bench_bind(const void *bridge_functions);

/*
 * A device with n_parts parts, each behind a mutex of its own, that shows QEMU
 * a copy as upstream's Migratable and careful C devices do: allocated in
 * pre_save and freed in post_save, allocated zeroed in pre_load and freed in
 * post_load.
 */
typedef struct QvReferenceDevice QvReferenceDevice;

/*
 * description: of a struct of size bytes whose n_parts fields are structs; they
 * become the parts.  It and its fields' descriptions must outlive the device.
 */
QvReferenceDevice *qv_reference_device_new(const VMStateDescription *description, size_t n_parts,
                                           size_t size);
void qv_reference_device_free(QvReferenceDevice *device);
/* The guarded state, size bytes. */
void *qv_reference_device_live(QvReferenceDevice *device);
const VMStateDescription *qv_reference_device_description(QvReferenceDevice *device);
/*
 * Puts count devices into the savevm list, with the instance ids from first on, or
 * with QEMU's choice of them (VMSTATE_INSTANCE_ID_ANY), as most C devices do.
 */
int qv_reference_devices_register(QvReferenceDevice **devices, size_t count, uint32_t first,
                                  int any_id);
void qv_reference_device_unregister(QvReferenceDevice *device);

/*
 * Saves opaque count times in a row into one QEMUFile in memory, and loads it as
 * often from there, under the BQL as a migration.  Nanoseconds of this thread's
 * CPU time for all (nothing in it waits), or a negative errno.  stream: room for
 * what count saves write and QV_TIMED_TAIL bytes more, which a save leaves as the
 * load wants it; size: without the tail.
 */
enum { QV_TIMED_TAIL = 512 };

int64_t qv_timed_save(const VMStateDescription *vmsd, void *opaque, int count,
                      unsigned char *stream, size_t capacity);
int64_t qv_timed_load(const VMStateDescription *vmsd, void *opaque, int version_id, int count,
                      unsigned char *stream, size_t size);

/*
 * Marks in the savevm list: an empty section that notes when it was saved and
 * loaded last (CLOCK_MONOTONIC, ns; 0: never).  What is registered between two
 * of them is saved between their times.
 */
enum { QV_MARKS = 2 };

int qv_mark_register(int mark);
void qv_mark_unregister(int mark);
int64_t qv_mark_saved(int mark);
int64_t qv_mark_loaded(int mark);
