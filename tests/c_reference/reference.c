/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMUFile in memory around the tree's vmstate_save_state() and vmstate_load_state(). */
#include "internal.h"
#include "qapi/error.h"
#include "io/channel-buffer.h"
#include "migration/qemu-file.h"
#include "bridge/qemu_version.h"
#if QV_HAS_SYSTEM_HEADERS
#include "qobject/json-writer.h"
#else
#include "qapi/qmp/json-writer.h"
#endif

static int save_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
                      JSONWriter *vmdesc, int version_id, Error **errp)
{
#if !QV_HAS_SAVE_V
    VMStateDescription older = *vmsd;

    /* Its only use of the number is the one that vmstate_save_state_v() made of its own. */
    older.version_id = version_id;
    return vmstate_save_state(f, &older, opaque, vmdesc, errp);
#elif QV_SAVE_V_SETS_ERROR
    return vmstate_save_state_v(f, vmsd, opaque, vmdesc, version_id, errp);
#else
    return vmstate_save_state_v(f, vmsd, opaque, vmdesc, version_id);
#endif
}

static int load_state(QEMUFile *f, const VMStateDescription *vmsd, void *opaque,
                      int version_id, Error **errp)
{
#if QV_HAS_ERRP_HOOKS
    return vmstate_load_state(f, vmsd, opaque, version_id, errp);
#else
    return vmstate_load_state(f, vmsd, opaque, version_id);
#endif
}

static char *take_error(Error *err)
{
    char *text = err ? g_strdup(error_get_pretty(err)) : NULL;

    error_free(err);
    return text;
}

Saved reference_save(const void *vmsd, void *opaque, int version_id)
{
    QIOChannelBuffer *buffer = qio_channel_buffer_new(0);
    QEMUFile *f = qemu_file_new_output(QIO_CHANNEL(buffer));
    JSONWriter *vmdesc = json_writer_new(false);
    Error *err = NULL;
    Saved saved = { 0 };

    json_writer_start_object(vmdesc, NULL);
    saved.ret = save_state(f, vmsd, opaque, vmdesc, version_id, &err);
    json_writer_end_object(vmdesc);
    qemu_fflush(f);
    if (!saved.ret) {
        saved.ret = qemu_file_get_error(f);
    }
    saved.data = g_memdup2(buffer->data, buffer->usage);
    saved.size = buffer->usage;
    saved.vmdesc = g_strdup(json_writer_get(vmdesc));
    saved.error = take_error(err);
    json_writer_free(vmdesc);
    qemu_fclose(f);
    object_unref(OBJECT(buffer));
    return saved;
}

int reference_load(const void *vmsd, void *opaque, int version_id, const void *data,
              unsigned long size, char **error)
{
    QIOChannelBuffer *buffer = qio_channel_buffer_new(size + 1);
    Error *err = NULL;
    QEMUFile *f;
    int ret;

    memcpy(buffer->data, data, size);
    buffer->data[size] = 0; /* QEMU_VM_EOF, as tests/unit/test-vmstate.c has it */
    buffer->usage = size + 1;
    f = qemu_file_new_input(QIO_CHANNEL(buffer));
    ret = load_state(f, vmsd, opaque, version_id, &err);
    if (!ret) {
        ret = qemu_file_get_error(f);
    }
    if (!ret && (qemu_get_byte(f) != 0 || qemu_file_get_error(f))) {
        ret = -E2BIG; /* it stopped before the end, or read the byte that is not its */
    }
    *error = take_error(err);
    qemu_fclose(f);
    object_unref(OBJECT(buffer));
    return ret;
}

void reference_free(void *p)
{
    g_free(p);
}

Field reference_field(const void *vmsd, int i)
{
    const VMStateField *field = &((const VMStateDescription *)vmsd)->fields[i];

    return (Field) {
        .name = field->name,
#if QV_HAS_ERR_HINT
        .err_hint = field->err_hint,
#endif
        .info = field->info ? field->info->name : NULL,
        .vmsd = field->vmsd ? field->vmsd->name : NULL,
        .offset = field->offset,
        .size = field->size,
        .start = field->start,
        .num_offset = field->num_offset,
        .size_offset = field->size_offset,
        .num = field->num,
        .flags = field->flags,
        .version_id = field->version_id,
        .struct_version_id = field->struct_version_id,
        .tested = field->field_exists != NULL,
    };
}
