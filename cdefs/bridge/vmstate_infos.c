/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMStateInfos that replace QEMU's where those trust the stream, or need what a staging struct
 * does not have.  Their names and the bytes on the wire are the same, but for the names of bytes
 * whose content readers of the stream can show.
 *
 * Their parameters are in members of VMStateField that QEMU does not use for such a field;
 * vmsd/description.py sets them.
 */
#include "bridge/vmstate_infos.h"
#include "bridge/migration_error.h"

/* A field's own info; its first member is at the address that QEMU knows. */
typedef struct OwnInfo {
    VMStateInfo info;
    const char *where; /* owner: Python; the field's path */
} OwnInfo;

static const char *where(const VMStateField *field)
{
    return container_of(field->info, OwnInfo, info)->where;
}

/* ---------------------------------------------------- numbers with limits */

/* start: the largest valid value; size_offset: the smallest. */
static int check_signed(const VMStateField *field, int64_t value)
{
    int64_t low = (int64_t)field->size_offset, high = (int64_t)field->start;

    if (value >= low && value <= high) {
        return 0;
    }
    qv_refuse("%s: %" PRId64 " is out of range (%" PRId64 " to %" PRId64 ")", where(field), value,
              low, high);
    return -EINVAL;
}

static int check_unsigned(const VMStateField *field, uint64_t value)
{
    if (value >= field->size_offset && value <= field->start) {
        return 0;
    }
    qv_refuse("%s: %" PRIu64 " is out of range (%" PRIu64 " to %" PRIu64 ")", where(field), value,
              (uint64_t)field->size_offset, (uint64_t)field->start);
    return -EINVAL;
}

#define QV_BOUNDED(type, check)                                                                  \
    static int get_bounded_##type(QEMUFile *f, void *pv, size_t size, const VMStateField *field) \
    {                                                                                            \
        type##_t previous = *(type##_t *)pv;                                                     \
        int ret = qv_get(qv.vmstate_info_##type, f, pv, size, field);                            \
                                                                                                 \
        if (ret == 0) {                                                                          \
            ret = check(field, *(type##_t *)pv);                                                 \
        }                                                                                        \
        if (ret) {                                                                               \
            /* The explanation of the failure uses the value as a count. */                      \
            *(type##_t *)pv = previous;                                                          \
        }                                                                                        \
        return ret;                                                                              \
    }                                                                                            \
    static int put_bounded_##type(QEMUFile *f, void *pv, size_t size, const VMStateField *field, \
                                  JSONWriter *vmdesc)                                            \
    {                                                                                            \
        return qv_put(qv.vmstate_info_##type, f, pv, size, field, vmdesc);                       \
    }                                                                                            \
    static const VMStateInfo bounded_##type = {                                                  \
        .name = #type,                                                                           \
        .get = get_bounded_##type,                                                               \
        .put = put_bounded_##type,                                                               \
    };

QV_BOUNDED(int8, check_signed)
QV_BOUNDED(int16, check_signed)
QV_BOUNDED(int32, check_signed)
QV_BOUNDED(int64, check_signed)
QV_BOUNDED(uint8, check_unsigned)
QV_BOUNDED(uint16, check_unsigned)
QV_BOUNDED(uint32, check_unsigned)
QV_BOUNDED(uint64, check_unsigned)

/* ------------------------------------------------------------------ timer */

/* vmstate_info_timer needs a QEMUTimer, and that needs a main loop. */
static int get_timer(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    *(uint64_t *)pv = qv.qemu_get_be64(f);
    return 0;
}

static int put_timer(QEMUFile *f, void *pv, size_t size, const VMStateField *field,
                     JSONWriter *vmdesc)
{
    qv.qemu_put_be64(f, *(uint64_t *)pv);
    return 0;
}

static const VMStateInfo timer_info = { .name = "timer", .get = get_timer, .put = put_timer };

/* ------------------------------------------------------- bytes with a content */

/* What vmstate_info_buffer does; the name tells readers of a stream what the bytes are. */
static int get_bytes(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    qv.qemu_get_buffer(f, pv, size);
    return 0;
}

static int put_bytes(QEMUFile *f, void *pv, size_t size, const VMStateField *field,
                     JSONWriter *vmdesc)
{
    qv.qemu_put_buffer(f, pv, size);
    return 0;
}

static const VMStateInfo messagepack_info = {
    .name = "messagepack",
    .get = get_bytes,
    .put = put_bytes,
};
static const VMStateInfo utf8_info = { .name = "utf8", .get = get_bytes, .put = put_bytes };

/* -------------------------------------------------------- structs and lists */

/*
 * A field with no version_id loads with that of its struct.  QEMU does so for struct fields, but
 * not for the lists and temporary structs that this serves.
 */
static int load_struct(QEMUFile *f, const VMStateField *field, const VMStateDescription *vmsd,
                       void *opaque)
{
    int version_id = field->version_id ? field->version_id : vmsd->version_id;
    Error *err = NULL;
    int ret = qv_load_state(f, vmsd, opaque, version_id, &err);

    if (err) {
        err = qv_reason_of(err);
        qv_refuse("%s: %s", field->name, qv.error_get_pretty(err));
        qv.error_free(err);
    }
    return ret;
}

static int save_struct(QEMUFile *f, const VMStateField *field, const VMStateDescription *vmsd,
                       void *opaque, JSONWriter *vmdesc)
{
    Error *err = NULL;
    int ret = qv_save_state(f, vmsd, opaque, vmdesc, &err);

    if (err) {
        qv_refuse("%s: %s", field->name, qv.error_get_pretty(err));
        qv.error_free(err);
    }
    return ret;
}

static int get_tmp(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    return load_struct(f, field, field->vmsd, pv);
}

static int put_tmp(QEMUFile *f, void *pv, size_t size, const VMStateField *field,
                   JSONWriter *vmdesc)
{
    return save_struct(f, field, field->vmsd, pv, vmdesc);
}

static const VMStateInfo tmp_info = { .name = "tmp", .get = get_tmp, .put = put_tmp };

/*
 * In memory a list is a count and an array of elements.  QEMU's lists are chains of allocations,
 * and the stream would decide how many.
 *
 * num: the capacity; num_offset: the distance from the count to the first element; size: the
 * distance between elements; start: in a gtree the distance from an element's key to its value,
 * else 0; vmsd: the description of the element, or in a gtree an array of the value's and the
 * key's, whose name is NULL for a direct key.
 */
static void *element_at(const VMStateField *field, void *pv, uint32_t i)
{
    return pv + field->num_offset + i * field->size;
}

static int get_key(QEMUFile *f, const VMStateField *field, void *element)
{
    const VMStateDescription *key = &field->vmsd[1];

    if (!field->start) {
        return 0;
    }
    if (key->name) {
        return load_struct(f, field, key, element);
    }
    *(uint64_t *)element = qv.qemu_get_be64(f);
    return 0;
}

static int put_key(QEMUFile *f, const VMStateField *field, void *element, JSONWriter *vmdesc)
{
    const VMStateDescription *key = &field->vmsd[1];

    if (!field->start) {
        return 0;
    }
    if (key->name) {
        return save_struct(f, field, key, element, vmdesc);
    }
    qv.qemu_put_be64(f, *(uint64_t *)element);
    return 0;
}

static int get_elements(QEMUFile *f, void *pv, const VMStateField *field)
{
    uint32_t n = 0;
    int ret = 0;

    while (ret == 0 && qv.qemu_get_byte(f)) {
        void *element = element_at(field, pv, n);

        if (n == field->num) {
            qv_refuse("%s: the stream has more than %d elements, and there is room for no more",
                      where(field), field->num);
            return -EINVAL;
        }
        ret = get_key(f, field, element);
        if (ret == 0) {
            ret = load_struct(f, field, field->vmsd, element + field->start);
        }
        if (ret == 0) {
            ret = qv.qemu_file_get_error(f);
        }
        n++;
    }
    *(uint32_t *)pv = n;
    return ret;
}

static int put_elements(QEMUFile *f, void *pv, const VMStateField *field, JSONWriter *vmdesc)
{
    uint32_t n = MIN(*(uint32_t *)pv, (uint32_t)field->num), i;
    int ret = 0;

    for (i = 0; i < n && ret == 0; i++) {
        void *element = element_at(field, pv, i);

        qv.qemu_put_byte(f, true);
        ret = put_key(f, field, element, vmdesc);
        if (ret == 0) {
            ret = save_struct(f, field, field->vmsd, element + field->start, vmdesc);
        }
    }
    qv.qemu_put_byte(f, false);
    return ret;
}

static int get_list(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    return get_elements(f, pv, field);
}

static int put_list(QEMUFile *f, void *pv, size_t size, const VMStateField *field,
                    JSONWriter *vmdesc)
{
    return put_elements(f, pv, field, vmdesc);
}

static const VMStateInfo qtailq_info = { .name = "qtailq", .get = get_list, .put = put_list };
static const VMStateInfo qlist_info = { .name = "qlist", .get = get_list, .put = put_list };

/* The value of a later node with the same key replaces the earlier one, as in g_tree_insert(). */
static uint32_t merge_nodes(const VMStateField *field, void *pv, uint32_t n)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
    uint32_t kept = 0, i;

    for (i = 0; i < n; i++) {
        void *element = element_at(field, pv, i), *earlier;
        GBytes *key = g_bytes_new(element, field->start);

        earlier = g_hash_table_lookup(seen, key);
        if (earlier) {
            memcpy(earlier + field->start, element + field->start, field->size - field->start);
            g_bytes_unref(key);
        } else {
            earlier = element_at(field, pv, kept++);
            memmove(earlier, element, field->size);
            g_hash_table_insert(seen, key, earlier);
        }
    }
    return kept;
}

static int get_gtree(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    uint32_t nodes = qv.qemu_get_be32(f), *n = pv;
    int ret;

    ret = get_elements(f, pv, field);
    if (ret == 0 && *n != nodes) {
        qv_refuse("%s: the stream says %" PRIu32 " nodes and has %" PRIu32, where(field), nodes,
                  *n);
        ret = -EINVAL;
    }
    if (ret == 0) {
        *n = merge_nodes(field, pv, *n);
    }
    return ret;
}

static int put_gtree(QEMUFile *f, void *pv, size_t size, const VMStateField *field,
                     JSONWriter *vmdesc)
{
    qv.qemu_put_be32(f, MIN(*(uint32_t *)pv, (uint32_t)field->num));
    return put_elements(f, pv, field, vmdesc);
}

static const VMStateInfo gtree_info = { .name = "gtree", .get = get_gtree, .put = put_gtree };

static const VMStateInfo *const plain[] = {
    &timer_info, &tmp_info, &messagepack_info, &utf8_info, &qtailq_info, &qlist_info, &gtree_info,
};
static const VMStateInfo *const limited[] = {
    &bounded_int8,  &bounded_int16,  &bounded_int32,  &bounded_int64,
    &bounded_uint8, &bounded_uint16, &bounded_uint32, &bounded_uint64,
};

bool qv_info_is_timer(const VMStateInfo *info)
{
    return info->get == get_timer;
}

bool qv_info_is_bytes(const VMStateInfo *info)
{
    return info->get == get_bytes;
}

bool qv_info_is_bounded(const VMStateInfo *info, bool *is_signed)
{
    size_t i = 0;

    while (i < G_N_ELEMENTS(limited) && limited[i]->get != info->get) {
        i++;
    }
    *is_signed = i < G_N_ELEMENTS(limited) / 2;
    return i < G_N_ELEMENTS(limited);
}

const VMStateInfo *qv_own_info(const char *name, int bounded, const char *path)
{
    const VMStateInfo *const *table = bounded ? limited : plain;
    size_t n = bounded ? G_N_ELEMENTS(limited) : G_N_ELEMENTS(plain), i;

    for (i = 0; i < n; i++) {
        if (!strcmp(table[i]->name, name)) {
            OwnInfo *own = g_new(OwnInfo, 1);

            own->info = *table[i];
            own->where = path;
            return &own->info;
        }
    }
    return NULL;
}
