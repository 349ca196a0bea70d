/*
 * Devices in C, with which Python devices are compared, and timed saves and loads of
 * both.  cffi reads this file as it is.
 */

typedef struct VMStateDescription VMStateDescription;

/* Set the result of the bridge's qv_bridge_functions(), before any other call. */
void qv_bench_bind(const void *bridge_functions);

/*
 * A device with parts, each guarded by a mutex of its own.  QEMU saves and loads a
 * copy, as with upstream's Migratable and careful C devices: pre_save allocates it and
 * post_save frees it, pre_load allocates it zeroed and post_load frees it.
 */
typedef struct QvReferenceDevice QvReferenceDevice;

/*
 * Return a device whose parts are the n_parts fields, all structs, of a description of
 * size bytes.  It and its fields' descriptions must outlive the device.
 */
QvReferenceDevice *qv_reference_device_new(const VMStateDescription *description, size_t n_parts,
                                           size_t size);
void qv_reference_device_free(QvReferenceDevice *device);
/* Return the guarded state, which has size bytes. */
void *qv_reference_device_state(QvReferenceDevice *device);
const VMStateDescription *qv_reference_device_description(QvReferenceDevice *device);
/*
 * Add count devices to the savevm list.  Their instance ids begin with first, or with
 * any_id QEMU chooses them (VMSTATE_INSTANCE_ID_ANY), as for most C devices.
 */
int qv_reference_devices_register(QvReferenceDevice **devices, size_t count, uint32_t first,
                                  int any_id);
void qv_reference_device_unregister(QvReferenceDevice *device);

/*
 * Save opaque count times in a row into one QEMUFile in memory, or load it count times
 * from there, with the BQL held as in a migration.  Return the nanoseconds of this
 * thread's CPU time for all (nothing in them waits), or a negative errno.  stream has
 * room for count saves and QV_TIMED_TAIL bytes more, which a save sets for the load;
 * size is without them.
 */
enum { QV_TIMED_TAIL = 512 };

int64_t qv_timed_save(const VMStateDescription *vmsd, void *opaque, int count,
                      unsigned char *stream, size_t capacity);
int64_t qv_timed_load(const VMStateDescription *vmsd, void *opaque, int version_id, int count,
                      unsigned char *stream, size_t size);

/*
 * Marks in the savevm list: empty sections that record when they were last saved and
 * loaded (CLOCK_MONOTONIC, ns; 0: never).  Devices that are registered between two
 * marks are saved between their times.
 */
enum { QV_MARKS = 2 };

int qv_mark_register(int mark);
void qv_mark_unregister(int mark);
int64_t qv_mark_saved(int mark);
int64_t qv_mark_loaded(int mark);
