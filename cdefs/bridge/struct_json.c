/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON of packed structs, which a migration appends to the stream for analyze-migration.py.
 *
 * Most of the downtime of a small device is this text: QEMU's JSONWriter appends each name
 * character by character.  A struct that has always the same size has always the same text, which
 * is written once, by a JSONWriter, and then appended as a whole.
 */
#include "bridge/struct_json.h"
#include "bridge/qemu_internal.h"

/*
 * The first members of QEMU's JSONWriter, which has no function that appends text as it is.  Its
 * layout is private: a text is kept only if the writer that wrote it has had it here.
 */
typedef struct WriterStart {
    bool pretty;
    bool need_comma;
    GString *contents; /* owner: the writer */
} WriterStart;

static GString *contents_of(JSONWriter *writer)
{
    return ((WriterStart *)writer)->contents;
}

static size_t measure(const QvFieldText *text, const unsigned char *element, size_t items)
{
    if (text->field->flags & (VMS_BUFFER | VMS_VBUFFER)) {
        return items;
    }
    return text->step.element ? qv_packer_wire_size(text->step.element, element) : text->step.width;
}

/* Write the entry of an array of n elements, or of one of them: that at index. */
static void describe_field(JSONWriter *vmdesc, const QvFieldText *text,
                           const unsigned char *element, size_t items, size_t n, size_t index,
                           bool each)
{
    qv_internal.json_writer_start_object(vmdesc, NULL);
    qv_internal.json_writer_str(vmdesc, "name", text->name);
    if (each && (index + 1 < n || QV_DESCRIBES_LAST_INDEX)) {
        qv_internal.json_writer_int64(vmdesc, "index", index);
    } else if (n > 1 && !each) {
        qv_internal.json_writer_int64(vmdesc, "array_len", n);
    }
    qv_internal.json_writer_str(vmdesc, "type", text->field->info->name);
    if (text->step.element) {
        qv_internal.json_writer_start_object(vmdesc, "struct");
        qv_struct_describe(vmdesc, text->step.element, element);
        qv_internal.json_writer_end_object(vmdesc);
    }
    qv_internal.json_writer_int64(vmdesc, "size", measure(text, element, items));
    qv_internal.json_writer_end_object(vmdesc);
}

static void describe_fields(JSONWriter *vmdesc, const QvPacker *packer, const unsigned char *pv)
{
    size_t i, j;

    qv_internal.json_writer_str(vmdesc, "vmsd_name", packer->vmsd->name);
    qv_internal.json_writer_int64(vmdesc, "version", packer->vmsd->version_id);
    qv_internal.json_writer_start_array(vmdesc, "fields");
    for (i = 0; i < packer->n_texts; i++) {
        const QvFieldText *text = &packer->texts[i];
        const QvStep *step = &text->step;
        const unsigned char *at = pv + step->offset;
        size_t items = qv_step_items_with_room(step, pv);
        size_t n = text->field->flags & (VMS_BUFFER | VMS_VBUFFER) ? 1 : items;
        bool each = n > 1 && step->element && !step->element->fixed;

        for (j = 0; j < (each ? n : MIN(n, 1)); j++) {
            describe_field(vmdesc, text, at + j * step->stride, items, n, j, each);
        }
    }
    qv_internal.json_writer_end_array(vmdesc);
}

/* Return the members of the JSON object; an empty text if none can be appended to a JSONWriter. */
static GString *write_members(const QvPacker *packer, const unsigned char *pv)
{
    JSONWriter *writer = qv_internal.json_writer_new(false);
    GString *supposed = contents_of(writer), *members;

    qv_internal.json_writer_start_object(writer, NULL);
    describe_fields(writer, packer, pv);
    members = qv_internal.json_writer_get_and_free(writer);
    if (members == supposed) {
        g_string_erase(members, 0, strlen("{"));
    } else {
        g_string_truncate(members, 0);
    }
    return members;
}

static const GString *members_of(const QvPacker *packer, const unsigned char *pv)
{
    GString *members = qatomic_load_acquire(&packer->json->members), *other;

    if (likely(members)) {
        return members;
    }
    members = write_members(packer, pv);
    /* Another thread may do the same at this time. */
    other = qatomic_cmpxchg(&packer->json->members, NULL, members);
    if (other) {
        g_string_free(members, true);
        members = other;
    }
    return members;
}

void qv_struct_describe(JSONWriter *vmdesc, const QvPacker *packer, const unsigned char *pv)
{
    const GString *members = packer->json ? members_of(packer, pv) : NULL;

    if (members && members->len) {
        /* The writer is at the start of an object, and does not need to know that it is not empty:
         * the end of an object is the same for both. */
        g_string_append_len(contents_of(vmdesc), members->str, members->len);
    } else {
        describe_fields(vmdesc, packer, pv);
    }
}
