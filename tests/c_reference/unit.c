/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables of the tree's own tests/unit/test-vmstate.c, with its objects; none of its tests. */
#include "unit.h"

#include <linux/types.h>
#define Device ReferenceDevice
#include "reference.h"

const Device *unit_device(int i);

/* Named by tests that are not run. */
QIOChannelFile *qio_channel_file_new_fd(int fd)
{
    return NULL;
}

static void *make_simple(void)
{
    return &obj_simple;
}

static void *make_array(void)
{
    return &obj_simple_arr;
}

static void *make_versioned(void)
{
    static TestStruct obj = { .a = 10, .b = 20, .c = 30, .d = 40, .e = 50, .f = 60 };

    return &obj;
}

static void *make_skipping(void)
{
    static TestStruct obj = {
        .a = 1, .b = 2, .c = 3, .d = 4, .e = 5, .f = 6, .skip_c_e = true
    };

    return &obj;
}

static TestStructTriv trivs[AR_SIZE] = {{.i = 0}, {.i = 1}, {.i = 2}, {.i = 3} };

static void *make_no_null(void)
{
    static TestArrayOfPtrToStuct obj = {
        .ar = {&trivs[0], &trivs[1], &trivs[2], &trivs[3]}
    };

    return &obj;
}

static void *make_null(void)
{
    static TestArrayOfPtrToStuct obj = {.ar = {&trivs[0], NULL, &trivs[2], &trivs[3]} };

    return &obj;
}

static void *make_null_numbers(void)
{
    static TestArrayOfPtrToInt obj = {
        .ar = {&trivs[0].i, NULL, &trivs[2].i, &trivs[3].i}
    };

    return &obj;
}

static void *make_queue(void)
{
    static TestQtailq obj;
    static TestQtailqElement one = { .b = true, .u8 = 130 };
    static TestQtailqElement two = { .b = false, .u8 = 65 };

    obj.i16 = -512;
    obj.i32 = 70000;
    QTAILQ_INIT(&obj.q);
    QTAILQ_INSERT_TAIL(&obj.q, &one, next);
    QTAILQ_INSERT_TAIL(&obj.q, &two, next);
    return &obj;
}

static void *make_domain(void)
{
    return create_first_domain();
}

static void *make_iommu(void)
{
    return create_iommu();
}

static void *make_container(void)
{
    return alloc_container();
}

static void *make_with_tmp(void)
{
    static TestStruct obj = { .a = 2, .b = 4, .d = 1, .f = 8 };

    return &obj;
}

#define TABLE(name, vmsd, make) { name, &vmsd, 0, NULL, 0, make }

static Device tables[] = {
    TABLE("simple/primitive", vmstate_simple_primitive, make_simple),
    TABLE("simple/array", vmstate_simple_arr, make_array),
    TABLE("test/versioned", vmstate_versioned, make_versioned),
    TABLE("test/skip", vmstate_skipping, make_skipping),
    TABLE("test/arps", vmsd_arps, make_no_null),
    TABLE("test/arps with NULL", vmsd_arps, make_null),
    TABLE("test/arpp with NULL", vmsd_arpp, make_null_numbers),
    TABLE("test/queue", vmstate_q, make_queue),
    TABLE("domain", vmstate_domain, make_domain),
    TABLE("iommu", vmstate_iommu, make_iommu),
    TABLE("test/container/qlist", vmstate_container, make_container),
    TABLE("test/with_tmp", vmstate_with_tmp, make_with_tmp),
};

const Device *unit_device(int i)
{
    Device *device = i < G_N_ELEMENTS(tables) ? &tables[i] : NULL;

    if (device) {
        device->version_id = ((const VMStateDescription *)device->vmsd)->version_id;
    }
    return device;
}
