/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The JSON of packed structs, which a migration appends to the stream for analyze-migration.py.
 *
 * Most of the downtime of a small device is this text, because QEMU's JSONWriter appends each name
 * character by character.  The names are always the same and are prepared once, as is the whole text
 * of a struct or a field that has always the same size.
 */
#include "bridge/struct_json.h"
#include "bridge/qemu_internal.h"

/*
 * The first members of QEMU's JSONWriter, which has no function that appends text as it is.  Its
 * layout is private, and is compared once with what a JSONWriter returns.
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

/* Return whether a JSONWriter has its text where contents_of() says. */
static bool layout_is_known(void)
{
    JSONWriter *writer = qv_internal.json_writer_new(false);
    GString *supposed = contents_of(writer);
    GString *contents = qv_internal.json_writer_get_and_free(writer);
    bool known = contents == supposed;

    g_string_free(contents, true);
    return known;
}

bool qv_can_append_json(void)
{
    enum { UNKNOWN, YES, NO };
    static int answer; /* the same from each thread that asks first */

    if (qatomic_read(&answer) == UNKNOWN) {
        qatomic_set(&answer, layout_is_known() ? YES : NO);
    }
    return qatomic_read(&answer) == YES;
}

/* -------------------------------------------------------------- appending to a text */

#define APPEND(text, literal) g_string_append_len(text, literal, strlen(literal))

static void append(GString *text, const GString *more)
{
    g_string_append_len(text, more->str, more->len);
}

static void append_number(GString *text, uint64_t number)
{
    char digits[20], *first = digits + sizeof(digits);

    do {
        *--first = '0' + number % 10;
        number /= 10;
    } while (number);
    g_string_append_len(text, first, digits + sizeof(digits) - first);
}

/* Append a string as QEMU writes it. */
static void append_quoted(GString *text, const char *string)
{
    JSONWriter *writer = qv_internal.json_writer_new(false);
    GString *array;

    qv_internal.json_writer_start_array(writer, NULL);
    qv_internal.json_writer_str(writer, NULL, string);
    qv_internal.json_writer_end_array(writer);
    array = qv_internal.json_writer_get_and_free(writer);
    g_string_append_len(text, array->str + strlen("["), array->len - strlen("[]"));
    g_string_free(array, true);
}

/* ------------------------------------------------------------------ a struct's members */

static void append_members(GString *text, const QvPacker *packer, const unsigned char *pv);

static size_t elements_of(const QvFieldText *field, const unsigned char *pv)
{
    bool is_buffer = field->field->flags & (VMS_BUFFER | VMS_VBUFFER);

    return is_buffer ? 1 : qv_step_items_with_room(&field->step, pv);
}

static size_t size_of(const QvFieldText *field, const unsigned char *pv,
                      const unsigned char *element)
{
    if (field->field->flags & (VMS_BUFFER | VMS_VBUFFER)) {
        return qv_step_items_with_room(&field->step, pv);
    }
    return field->step.element ? qv_packer_wire_size(field->step.element, element)
                               : field->step.width;
}

/* Append the entry of a field of n elements, or with each the entry of the element at index. */
static void append_entry(GString *text, const QvFieldText *field, const QvFieldJson *json,
                         const unsigned char *pv, size_t n, size_t index, bool each)
{
    const unsigned char *element = pv + field->step.offset + index * field->step.stride;

    append(text, json->start);
    if (!json->type) {
        return;
    }
    if (each && (index + 1 < n || QV_DESCRIBES_LAST_INDEX)) {
        APPEND(text, ", \"index\": ");
        append_number(text, index);
    } else if (n > 1 && !each) {
        APPEND(text, ", \"array_len\": ");
        append_number(text, n);
    }
    append(text, json->type);
    if (field->step.element) {
        APPEND(text, ", \"struct\": {");
        append_members(text, field->step.element, element);
        APPEND(text, "}");
    }
    APPEND(text, ", \"size\": ");
    append_number(text, size_of(field, pv, element));
    APPEND(text, "}");
}

static void append_fields(GString *text, const QvPacker *packer, const QvFieldJson *json,
                          const unsigned char *pv)
{
    size_t i, j, entries = 0;

    for (i = 0; i < packer->n_texts; i++) {
        const QvFieldText *field = &packer->texts[i];
        size_t n = elements_of(field, pv);
        bool each = n > 1 && field->step.element && !field->step.element->fixed;

        for (j = 0; j < (each ? n : MIN(n, 1)); j++) {
            if (entries++) {
                APPEND(text, ", ");
            }
            append_entry(text, field, &json[i], pv, n, j, each);
        }
    }
    APPEND(text, "]");
}

/* -------------------------------------------------------------- what is always the same */

/* Prepare the entry of a field; all of it if it is always the same. */
static QvFieldJson prepare_field(const QvFieldText *field, const unsigned char *pv)
{
    QvFieldJson parts = { .start = g_string_new("{\"name\": "),
                          .type = g_string_new(", \"type\": ") },
                whole;

    append_quoted(parts.start, field->name);
    append_quoted(parts.type, field->field->info->name);
    if (field->step.count_width || (field->step.element && !field->step.element->fixed)) {
        return parts;
    }
    whole = (QvFieldJson){ .start = g_string_new(NULL) };
    append_entry(whole.start, field, &parts, pv, elements_of(field, pv), 0, false);
    g_string_free(parts.start, true);
    g_string_free(parts.type, true);
    return whole;
}

static QvStructJson *prepare(const QvPacker *packer, const unsigned char *pv)
{
    QvStructJson *json = g_new(QvStructJson, 1);
    size_t i;

    json->start = g_string_new("\"vmsd_name\": ");
    append_quoted(json->start, packer->vmsd->name);
    g_string_append_printf(json->start, ", \"version\": %d, \"fields\": [",
                           packer->vmsd->version_id);
    json->fields = g_new(QvFieldJson, packer->n_texts);
    for (i = 0; i < packer->n_texts; i++) {
        json->fields[i] = prepare_field(&packer->texts[i], pv);
    }
    if (packer->fixed) {
        append_fields(json->start, packer, json->fields, pv);
    }
    return json;
}

static const QvStructJson *json_of(const QvPacker *packer, const unsigned char *pv)
{
    QvStructJson *json = qatomic_load_acquire(&packer->json->made), *other;

    if (likely(json)) {
        return json;
    }
    json = prepare(packer, pv);
    /* Another thread may do the same at this time. */
    other = qatomic_cmpxchg(&packer->json->made, NULL, json);
    if (other) {
        qv_struct_json_free(packer, json);
        json = other;
    }
    return json;
}

static void append_members(GString *text, const QvPacker *packer, const unsigned char *pv)
{
    const QvStructJson *json = json_of(packer, pv);

    append(text, json->start);
    if (!packer->fixed) {
        append_fields(text, packer, json->fields, pv);
    }
}

void qv_struct_describe(JSONWriter *vmdesc, const QvPacker *packer, const unsigned char *pv)
{
    /* The writer is at the start of an object, and does not need to know that it is not empty: the
     * end of an object is the same for both. */
    append_members(contents_of(vmdesc), packer, pv);
}
