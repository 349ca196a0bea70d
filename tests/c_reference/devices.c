/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices in C, each for the combinations of one kind of fields. */
#include "internal.h"

/* ------------------------------------------- variable lengths, in structs too */
static bool always(void *opaque, int version_id)
{
    return true;
}

static const VMStateDescription vmstate_channel = {
    .name = "channel",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(active, Channel),
        VMSTATE_UINT16(used, Channel),
        VMSTATE_VARRAY_UINT16_UNSAFE(fifo, Channel, used, 0, vmstate_info_uint16, uint16_t),
        /* Without a condition, QEMU describes an array of channels by the first one. */
        VMSTATE_VALIDATE("", always),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_mixed = {
    .name = "mixed",
    .version_id = 2,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(serial, Mixed),
        VMSTATE_STRUCT(pair, Mixed, 0, vmstate_pair, Pair),
        VMSTATE_UINT8(channels_n, Mixed),
        VMSTATE_STRUCT_VARRAY_UINT8(channels, Mixed, channels_n, 0, vmstate_channel, Channel),
        VMSTATE_INT32(length, Mixed),
        VMSTATE_VBUFFER(text, Mixed, 0, NULL, length),
        VMSTATE_UNUSED(3),
        VMSTATE_UINT32(words_n, Mixed),
        VMSTATE_VARRAY_UINT32(words, Mixed, words_n, 0, vmstate_info_uint32, uint32_t),
        VMSTATE_INT32(bits_n, Mixed),
        VMSTATE_BITMAP(bits, Mixed, 0, bits_n),
        VMSTATE_UNUSED_V(2, 2),
        VMSTATE_ARRAY_OF_POINTER_TO_STRUCT(slots, Mixed, 3, 0, vmstate_pair, Pair),
        VMSTATE_UINT16_SUB_ARRAY(regs, Mixed, 2, 3),
        VMSTATE_BUFFER(ram, Mixed),
        VMSTATE_INT64_V(last, Mixed, 2),
        VMSTATE_END_OF_LIST()
    }
};

/* ----------------------------------------------------------------- subsections */
static bool port_extra_needed(void *opaque)
{
    return ((Port *)opaque)->extra != 0;
}

static const VMStateDescription vmstate_port_extra = {
    .name = "port/extra",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = port_extra_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(extra, Port),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_port = {
    .name = "port",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(a, Port),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *[]) { &vmstate_port_extra, NULL }
};

static bool one_needed(void *opaque)
{
    return ((Subs *)opaque)->one != 0;
}

static bool two_needed(void *opaque)
{
    return ((Subs *)opaque)->two != 0;
}

static bool deep_needed(void *opaque)
{
    return ((Subs *)opaque)->deep != 0;
}

static const VMStateDescription vmstate_one = {
    .name = "subs/one",
    .version_id = 3,
    .minimum_version_id = 2,
    .needed = one_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(one, Subs),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_deep = {
    .name = "subs/two/deep",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = deep_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(deep, Subs),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_two = {
    .name = "subs/two",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = two_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(two, Subs),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *[]) { &vmstate_deep, NULL }
};

static const VMStateDescription vmstate_subs = {
    .name = "subs",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(base, Subs),
        VMSTATE_STRUCT_ARRAY(ports, Subs, 3, 0, vmstate_port, Port),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription *[]) { &vmstate_one, &vmstate_two, NULL }
};

/* ------------------------------------- fields that may be absent, in an array */
static bool cell_is_set(void *opaque, int version_id)
{
    return ((Cell *)opaque)->kind != 0;
}

static const VMStateDescription vmstate_cell = {
    .name = "cell",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(kind, Cell),
        VMSTATE_UINT32_TEST(value, Cell, cell_is_set),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_cells = {
    .name = "cells",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_ARRAY(cells, Cells, 3, 0, vmstate_cell, Cell),
        VMSTATE_UINT8(end, Cells),
        VMSTATE_END_OF_LIST()
    }
};

/* --------------------------------------- bytes after their number, in structs too */
static const VMStateDescription vmstate_message = {
    .name = "message",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(a, Message),
        VMSTATE_UINT32(n, Message),
        VMSTATE_VBUFFER_UINT32(data, Message, 0, NULL, n),
        VMSTATE_UINT16(b, Message),
        /* Each message of an array is described, as the channels are. */
        VMSTATE_VALIDATE("", always),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_mailbox = {
    .name = "mailbox",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT(first, Mailbox, 0, vmstate_message, Message),
        VMSTATE_UINT8(c, Mailbox),
        VMSTATE_STRUCT_ARRAY(rest, Mailbox, 2, 0, vmstate_message, Message),
        VMSTATE_END_OF_LIST()
    }
};

/* -------------------------------------------------------------------- versions */
static const VMStateDescription vmstate_grown_pair = {
    .name = "pair",
    .version_id = 2,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(x, Pair),
        VMSTATE_UINT32_V(y, Pair, 2),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_grown = {
    .name = "grown",
    .version_id = 4,
    .minimum_version_id = 2,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(a, Grown),
        VMSTATE_UINT16_V(b, Grown, 3),
        VMSTATE_UINT32_V(c, Grown, 4),
        VMSTATE_UINT8_V(d, Grown, 2),
        VMSTATE_VSTRUCT_V(old, Grown, 3, vmstate_grown_pair, Pair, 1),
        VMSTATE_VSTRUCT_V(now, Grown, 4, vmstate_grown_pair, Pair, 2),
        VMSTATE_END_OF_LIST()
    }
};

#define DEVICE(name, type) { #name, &vmstate_##name, 0, #type, sizeof(type), NULL }

static Device devices[] = {
    DEVICE(mixed, Mixed),
    DEVICE(subs, Subs),
    DEVICE(cells, Cells),
    DEVICE(message, Message),
    DEVICE(mailbox, Mailbox),
    DEVICE(grown, Grown),
};

const Device *reference_device(int i)
{
    Device *device;

    if (i >= G_N_ELEMENTS(devices)) {
        return unit_device(i - G_N_ELEMENTS(devices));
    }
    device = &devices[i];
    device->version_id = ((const VMStateDescription *)device->vmsd)->version_id;
    return device;
}
