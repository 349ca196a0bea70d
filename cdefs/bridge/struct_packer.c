/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making packers from descriptions. */
#include "bridge/struct_packer.h"
#include "bridge/vmstate_infos.h"

const char qv_struct_name[] = "struct";

/* The infos of numbers, and what they do on a load. */
static const struct {
    const char *name;
    uint8_t width;
    bool is_signed;
    QvCheck check;
} number_infos[] = {
    { "uint8", 1, false, QV_ANY },
    { "uint16", 2, false, QV_ANY },
    { "uint32", 4, false, QV_ANY },
    { "uint64", 8, false, QV_ANY },
    { "int8", 1, true, QV_ANY },
    { "int16", 2, true, QV_ANY },
    { "int32", 4, true, QV_ANY },
    { "int64", 8, true, QV_ANY },
    { "uint8_equal", 1, false, QV_EQUAL },
    { "uint16_equal", 2, false, QV_EQUAL },
    { "uint32_equal", 4, false, QV_EQUAL },
    { "uint64_equal", 8, false, QV_EQUAL },
    { "int32_equal", 4, true, QV_EQUAL },
    { "int32_le", 4, true, QV_AT_MOST },
    { "cpudouble", 8, false, QV_ANY },
};

/* Each is looked up once: in a QEMU that exports no symbols that is a search through all of them. */
static const VMStateInfo *look_up(const VMStateInfo **found, const char *name)
{
    if (!*found) {
        *found = qv_vmstate_info(name);
    }
    return *found;
}

static const VMStateInfo *number_info(size_t i)
{
    static const VMStateInfo *found[G_N_ELEMENTS(number_infos)];

    return look_up(&found[i], number_infos[i].name);
}

const QvPacker *qv_packer_of(const VMStateField *field)
{
    bool packed = field->info && field->info->name == qv_struct_name;

    return packed ? container_of(field->info, QvStructInfo, info)->packer : NULL;
}

/* ----------------------------------------------------------------- a field's step */

static bool set_number(QvStep *step, const VMStateField *field)
{
    static const VMStateInfo *bool_info;
    size_t i = 0;

    step->kind = QV_NUMBERS;
    if (field->info == look_up(&bool_info, "bool")) {
        step->kind = QV_BOOLS;
        step->width = 1;
    } else if (qv_info_is_timer(field->info)) {
        step->width = 8;
    } else if (qv_info_is_bounded(field->info, &step->is_signed)) {
        step->width = field->size;
        step->check = QV_WITHIN;
        step->low = field->size_offset;
        step->high = field->start;
    } else {
        while (i < G_N_ELEMENTS(number_infos) && number_info(i) != field->info) {
            i++;
        }
        if (i == G_N_ELEMENTS(number_infos)) {
            return false;
        }
        step->width = number_infos[i].width;
        step->is_signed = number_infos[i].is_signed;
        step->check = number_infos[i].check;
    }
    if (step->width == 1 && step->check == QV_ANY && step->kind == QV_NUMBERS) {
        step->kind = QV_BYTES;
    }
    step->stride = step->width;
    return field->size == step->width;
}

static bool set_struct(QvStep *step, const VMStateField *field)
{
    step->kind = QV_STRUCTS;
    step->element = qv_packer_of(field);
    step->stride = field->size;
    return true;
}

static bool set_bytes(QvStep *step, const VMStateField *field, size_t n)
{
    static const VMStateInfo *unused_info, *buffer_info;
    bool unused = field->info == look_up(&unused_info, "unused_buffer");

    if (!unused && !qv_info_is_bytes(field->info)
        && field->info != look_up(&buffer_info, "buffer")) {
        return false;
    }
    step->kind = unused ? QV_UNUSED : QV_BYTES;
    step->width = 1;
    step->stride = unused ? 0 : 1;
    step->n *= n;
    return true;
}

static void set_count(QvStep *step, size_t offset, uint8_t width, bool is_signed)
{
    step->count_offset = offset;
    step->count_width = width;
    step->count_is_signed = is_signed;
}

/* Set what says how many elements the field has, and return its other flags. */
static int set_elements(QvStep *step, const VMStateField *field)
{
    int flags = field->flags;

    if (flags & VMS_ARRAY) {
        step->n = field->num;
    } else if (flags & VMS_VARRAY_UINT8) {
        set_count(step, field->num_offset, 1, false);
    } else if (flags & VMS_VARRAY_UINT16) {
        set_count(step, field->num_offset, 2, false);
    } else if (flags & VMS_VARRAY_UINT32) {
        set_count(step, field->num_offset, 4, false);
    } else if (flags & VMS_VARRAY_INT32) {
        set_count(step, field->num_offset, 4, true);
    }
    if (step->count_width && (flags & qv_multiply_elements())) {
        step->n = field->num;
        flags &= ~qv_multiply_elements();
    }
    return flags & ~QV_ELEMENT_FLAGS;
}

/* False: QEMU has to walk the struct. */
static bool set_kind(QvStep *step, const VMStateField *field)
{
    int flags = set_elements(step, field);

    if (flags == VMS_BUFFER) {
        /* The stream would say how many unused bytes to skip. */
        return !step->count_width && set_bytes(step, field, field->size);
    }
    if ((flags & ~VMS_MULTIPLY) == VMS_VBUFFER) {
        if (step->count_width || (field->flags & VMS_ARRAY)) {
            return false;
        }
        set_count(step, field->size_offset, 4, true);
        return set_bytes(step, field, flags & VMS_MULTIPLY ? field->size : 1);
    }
    if (flags & ~VMS_SINGLE) {
        return false;
    }
    return qv_packer_of(field) ? set_struct(step, field) : set_number(step, field);
}

/* Set what there is memory for, or return false for a field that exceeds the struct. */
static bool set_room(QvStep *step, size_t size)
{
    if (step->kind == QV_UNUSED) {
        step->room = step->n;
        return true;
    }
    if (step->offset > size
        || (step->count_width && step->count_offset > size - step->count_width)) {
        return false;
    }
    step->room = step->stride ? (size - step->offset) / step->stride : SIZE_MAX;
    return step->count_width || step->n <= step->room;
}

static bool continues(const QvStep *last, const QvStep *step)
{
    return last->kind == step->kind && last->width == step->width && step->kind != QV_STRUCTS
           && last->check == QV_ANY && step->check == QV_ANY && !last->count_width
           && !step->count_width && last->offset + last->n * last->stride == step->offset;
}

/* False: QEMU has to walk the struct, of size bytes. */
static bool set_step(QvStep *step, const VMStateField *field, size_t size)
{
    *step = (QvStep){ .n = 1, .offset = field->offset, .name = field->name };
    return !qv_field_asks(field) && set_kind(step, field) && set_room(step, size);
}

static void add_step(QvPacker *packer, const QvStep *step)
{
    QvStep *last = packer->n_steps ? &packer->steps[packer->n_steps - 1] : NULL;

    if (last && continues(last, step)) {
        last->n += step->n;
        last->room = last->n;
    } else {
        packer->steps[packer->n_steps++] = *step;
    }
}

/* ------------------------------------------------------------------------ the packer */

/* Return the name that QEMU's JSON has for a field: one that is not the only one gets a number. */
static char *name_in_json(const VMStateDescription *vmsd, const VMStateField *field)
{
    const VMStateField *other;
    int same = 0, before = 0;

    for (other = vmsd->fields; other->name; other++) {
        if (!strcmp(other->name, field->name)) {
            before += other < field;
            same++;
        }
    }
    return same > 1 ? g_strdup_printf("%s[%d]", field->name, before) : g_strdup(field->name);
}

static void set_walked(QvPacker *packer, size_t n_fields)
{
    size_t i;

    packer->walked_fields = g_memdup2(packer->vmsd->fields, (n_fields + 1) * sizeof(VMStateField));
    for (i = 0; i < n_fields; i++) {
        VMStateField *field = &packer->walked_fields[i];
        const QvPacker *element = qv_packer_of(field);

        if (element) {
            field->flags = (field->flags & ~VMS_SINGLE) | VMS_STRUCT;
            field->vmsd = &element->walked;
            field->info = NULL;
        }
    }
    packer->walked = (VMStateDescription){
        .name = packer->vmsd->name,
        .version_id = packer->vmsd->version_id,
        .minimum_version_id = packer->vmsd->minimum_version_id,
        .fields = packer->walked_fields,
    };
}

static void set_wire_sizes(QvPacker *packer)
{
    size_t i = packer->n_steps, ahead = 0;

    packer->fixed = true;
    while (i--) {
        QvStep *step = &packer->steps[i];
        bool fixed = !step->count_width && (!step->element || step->element->fixed);

        packer->fixed = packer->fixed && fixed;
        ahead = fixed ? ahead + step->n * (step->element ? step->element->wire : step->width) : 0;
        step->ahead = ahead;
    }
    packer->wire = packer->fixed ? ahead : 0;
}

QvPacker *qv_packer_new(const VMStateDescription *vmsd, size_t size)
{
    QvPacker *packer = g_new0(QvPacker, 1);
    const VMStateField *field;
    size_t n = 0;
    bool packable = !vmsd->subsections;

    while (vmsd->fields[n].name) {
        n++;
    }
    packer->vmsd = vmsd;
    packer->name_length = strlen(vmsd->name);
    packer->steps = g_new0(QvStep, n);
    packer->texts = g_new0(QvFieldText, n);
    for (field = vmsd->fields; field->name && packable; field++) {
        QvFieldText *text = &packer->texts[packer->n_texts];

        /* A nested struct is always of its newest version.  A condition has no bytes. */
        if (field->version_id > vmsd->version_id || field->flags & VMS_MUST_EXIST) {
            continue;
        }
        packable = set_step(&text->step, field, size);
        text->field = field;
        text->name = name_in_json(vmsd, field);
        packer->n_texts++;
        add_step(packer, &text->step);
    }
    if (!packable) {
        qv_packer_free(packer);
        return NULL;
    }
    set_walked(packer, n);
    set_wire_sizes(packer);
    packer->json = g_new0(QvPackerJson, 1);
    packer->flat = packer->n_steps == 1 && packer->fixed && packer->steps->check == QV_ANY
                   && (packer->steps->kind == QV_NUMBERS || packer->steps->kind == QV_BYTES)
                   && packer->steps->offset == 0 && packer->wire == size;
    return packer;
}

void qv_struct_json_free(const QvPacker *packer, QvStructJson *json)
{
    size_t i;

    for (i = 0; i < packer->n_texts; i++) {
        g_string_free(json->fields[i].start, true);
        if (json->fields[i].type) {
            g_string_free(json->fields[i].type, true);
        }
    }
    g_free(json->fields);
    g_string_free(json->start, true);
    g_free(json);
}

void qv_packer_free(QvPacker *packer)
{
    size_t i;

    for (i = 0; i < packer->n_texts; i++) {
        g_free(packer->texts[i].name);
    }
    g_free(packer->texts);
    if (packer->json && packer->json->made) {
        qv_struct_json_free(packer, packer->json->made);
    }
    g_free(packer->json);
    g_free(packer->steps);
    g_free(packer->walked_fields);
    g_free(packer);
}

size_t qv_packer_wire_size(const QvPacker *packer, const unsigned char *pv)
{
    size_t size = 0, i, j;

    if (packer->fixed) {
        return packer->wire;
    }
    for (i = 0; i < packer->n_steps; i++) {
        const QvStep *step = &packer->steps[i];
        size_t n = qv_step_items_with_room(step, pv);

        if (!step->element) {
            size += n * step->width;
            continue;
        }
        if (step->element->fixed) {
            size += n * step->element->wire;
            continue;
        }
        for (j = 0; j < n; j++) {
            size += qv_packer_wire_size(step->element, pv + step->offset + j * step->stride);
        }
    }
    return size;
}
