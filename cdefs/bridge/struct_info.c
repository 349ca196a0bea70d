/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMStateInfo with which QEMU saves and loads a struct as a whole. */
#include "bridge/migration_error.h"
#include "bridge/qemu_internal.h"
#include "bridge/struct_json.h"
#include "bridge/struct_load.h"
#include "bridge/struct_save.h"
#include "bridge/varying.h"

static int get_struct(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    Error *err = NULL;
    int ret = qv_struct_load(f, qv_packer_of(field), pv, &err);

    if (unlikely(err)) {
        qv_keep_error(err);
    }
    return ret;
}

static int put_struct(QEMUFile *f, void *pv, size_t size, const VMStateField *field,
                      JSONWriter *vmdesc)
{
    const QvPacker *packer = qv_packer_of(field);

    if (vmdesc) {
        qv_internal.json_writer_start_object(vmdesc, "struct");
        qv_struct_describe(vmdesc, packer, pv);
        qv_internal.json_writer_end_object(vmdesc);
    }
    qv_struct_save(f, packer, pv);
    return 0;
}

const VMStateInfo *qv_packer_use(const QvPacker *packer, VMStateField *field)
{
    int elements = QV_ELEMENT_FLAGS | qv_multiply_elements();
    QvStructInfo *made;

    if ((field->flags & ~elements) != VMS_STRUCT || !qv_can_append_json()) {
        return NULL;
    }
    if (!packer->fixed && (field->flags & elements) && !field->field_exists) {
        /* QEMU does not see the struct's fields any more. */
        field->field_exists = qv_exists_since(field->version_id);
        if (!field->field_exists) {
            return NULL;
        }
    }
    made = g_new(QvStructInfo, 1);
    made->info = (VMStateInfo){ .name = qv_struct_name, .get = get_struct, .put = put_struct };
    made->packer = packer;
    field->flags = field->flags == VMS_STRUCT ? VMS_SINGLE : field->flags & ~VMS_STRUCT;
    field->info = &made->info;
    return field->info;
}
