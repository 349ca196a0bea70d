/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every VMSTATE_* macro of the tree's migration/vmstate.h that makes a field, used once. */
#include "internal.h"
#include "qemu/cpu-float.h"
#include "bridge/qemu_version.h"

/* savevm.c has the real one, and needs a machine; only the macros that name it are looked at. */
const VMStateInfo vmstate_info_timer = { .name = "timer" };

const VMStateDescription vmstate_pair = {
    .name = "pair",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(x, Pair),
        VMSTATE_UINT32(y, Pair),
        VMSTATE_END_OF_LIST()
    }
};

/* Of two versions: what VSTRUCT is for. */
static const VMStateDescription vmstate_versioned_pair = {
    .name = "pair",
    .version_id = 2,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(x, Pair),
        VMSTATE_UINT32_V(y, Pair, 2),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_value_and_key[2] = {
    {
        .name = "pair",
        .version_id = 1,
        .minimum_version_id = 1,
        .fields = (const VMStateField[]) {
            VMSTATE_UINT8(x, Pair),
            VMSTATE_UINT32(y, Pair),
            VMSTATE_END_OF_LIST()
        }
    }, {
        .name = "key",
        .version_id = 1,
        .minimum_version_id = 1,
        .fields = (const VMStateField[]) {
            VMSTATE_UINT8(x, Pair),
            VMSTATE_UINT32(y, Pair),
            VMSTATE_END_OF_LIST()
        }
    }
};

/* ----------------------------------------------------------------- lists */
typedef struct Node {
    uint8_t x;
    uint32_t y;
    QTAILQ_ENTRY(Node) tailq;
    QLIST_ENTRY(Node) list;
} Node;

typedef struct TailQ { QTAILQ_HEAD(, Node) a; } TailQ;
typedef struct QList { QLIST_HEAD(, Node) a; } QList;
QEMU_BUILD_BUG_ON(sizeof(TailQ) > sizeof(List) || sizeof(QList) > sizeof(List));

static const VMStateDescription vmstate_node = {
    .name = "pair",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8(x, Node),
        VMSTATE_UINT32(y, Node),
        VMSTATE_END_OF_LIST()
    }
};

static Node *new_node(Pair value)
{
    Node *node = g_new0(Node, 1);   /* owner: the list, which a test leaks */

    node->x = value.x;
    node->y = value.y;
    return node;
}

void reference_qtailq_append(List *list, Pair value)
{
    TailQ *q = (TailQ *)list;
    Node *made = new_node(value);

    if (!q->a.tqh_circ.tql_prev) {
        QTAILQ_INIT(&q->a);
    }
    QTAILQ_INSERT_TAIL(&q->a, made, tailq);
}

int reference_qtailq_get(const List *list, Pair *values, int max)
{
    Node *node;
    int n = 0;

    QTAILQ_FOREACH(node, &((TailQ *)list)->a, tailq) {
        if (n < max) {
            values[n] = (Pair) { node->x, node->y };
        }
        n++;
    }
    return n;
}

void reference_qlist_append(List *list, Pair value)
{
    QList *q = (QList *)list;
    Node *made = new_node(value), *node = QLIST_FIRST(&q->a);

    if (!node) {
        QLIST_INSERT_HEAD(&q->a, made, list);
        return;
    }
    while (QLIST_NEXT(node, list)) {
        node = QLIST_NEXT(node, list);
    }
    QLIST_INSERT_AFTER(node, made, list);
}

int reference_qlist_get(const List *list, Pair *values, int max)
{
    Node *node;
    int n = 0;

    QLIST_FOREACH(node, &((QList *)list)->a, list) {
        if (n < max) {
            values[n] = (Pair) { node->x, node->y };
        }
        n++;
    }
    return n;
}

static gint compare_numbers(gconstpointer a, gconstpointer b, gpointer data)
{
    return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

static gint compare_pairs(gconstpointer a, gconstpointer b, gpointer data)
{
    const Pair *one = a, *two = b;

    return one->x != two->x ? one->x - two->x : (one->y > two->y) - (one->y < two->y);
}

void reference_tree_insert(Tree *tree, uint64_t key, Pair value)
{
    if (!tree->a) {
        tree->a = g_tree_new_full(compare_numbers, NULL, NULL, g_free);
    }
    g_tree_insert(tree->a, (gpointer)(uintptr_t)key, g_memdup2(&value, sizeof(value)));
}

void reference_tree_insert_pair(Tree *tree, Pair key, Pair value)
{
    if (!tree->a) {
        tree->a = g_tree_new_full(compare_pairs, NULL, g_free, g_free);
    }
    g_tree_insert(tree->a, g_memdup2(&key, sizeof(key)), g_memdup2(&value, sizeof(value)));
}

typedef struct Walk {
    uint64_t *keys;
    Pair *pair_keys, *values;
    int n, max;
} Walk;

static gboolean walk_tree(gpointer key, gpointer value, gpointer data)
{
    Walk *walk = data;

    if (walk->n < walk->max) {
        if (walk->keys) {
            walk->keys[walk->n] = (uintptr_t)key;
        } else {
            walk->pair_keys[walk->n] = *(Pair *)key;
        }
        walk->values[walk->n] = *(Pair *)value;
    }
    walk->n++;
    return false;
}

int reference_tree_get(const Tree *tree, uint64_t *keys, Pair *pair_keys, Pair *values, int max)
{
    Walk walk = { .keys = keys, .pair_keys = pair_keys, .values = values, .max = max };

    g_tree_foreach(tree->a, walk_tree, &walk);
    return walk.n;
}

/* ------------------------------------------------------------------- tmp */
typedef struct HalfTmp {
    U32 *parent;
    uint16_t half;
} HalfTmp;

static int half_pre_save(void *opaque)
{
    HalfTmp *tmp = opaque;

    tmp->half = tmp->parent->a / 2;
    return 0;
}

static int half_post_load(void *opaque, int version_id)
{
    HalfTmp *tmp = opaque;

    tmp->parent->a = tmp->half * 2;
    return 0;
}

static const VMStateDescription vmstate_half = {
    .name = "half",
    .version_id = 1,
    .pre_save = half_pre_save,
    .post_load = half_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(half, HalfTmp),
        VMSTATE_END_OF_LIST()
    }
};

/* ------------------------------------------------- types that C only has */
typedef struct DoublesC { CPU_DoubleU a[3]; } DoublesC;
typedef struct Timer { QEMUTimer a; } Timer;
typedef struct TimerPointer { QEMUTimer *a; } TimerPointer;
typedef struct Timers { QEMUTimer a[3]; } Timers;
typedef struct TimerPointers { QEMUTimer *a[3]; } TimerPointers;
QEMU_BUILD_BUG_ON(sizeof(DoublesC) != sizeof(Doubles));

static bool since_2(void *opaque, int version_id)
{
    return version_id >= 2;
}

static bool is_below_200(void *opaque, int version_id)
{
    return ((U8 *)opaque)->a < 200;
}

/* ------------------------------------------------------------------ rows */
typedef struct Use {
    Row row;
    VMStateField fields[4];
} Use;

#define ROW_AS(macro, type, c_type, ...) \
    { { #macro, type, sizeof(c_type) }, { __VA_ARGS__, VMSTATE_END_OF_LIST() } },
#define ROW(macro, type, ...) ROW_AS(macro, #type, type, __VA_ARGS__)
#define FIELD_ONLY(macro, type, ...) ROW_AS(macro, NULL, type, __VA_ARGS__)
#define N(macro, type) VMSTATE_##macro(n, type)
#if QV_HAS_ERR_HINT
#define HINTED(macro, hint, ...) macro(__VA_ARGS__, hint)
#else
#define HINTED(macro, hint, ...) macro(__VA_ARGS__)
#endif
#if QV_ARRAYS_OF_POINTER_TAKE_POINTER
#define POINTER_TO(type) type *
#else
#define POINTER_TO(type) type
#endif

static Use uses[] = {
    ROW(VMSTATE_BOOL, Bool, VMSTATE_BOOL(a, Bool))
    ROW(VMSTATE_BOOL_V, Bool, VMSTATE_BOOL_V(a, Bool, 2))
    ROW(VMSTATE_BOOL_TEST, Bool, VMSTATE_BOOL_TEST(a, Bool, since_2))
#define SCALAR_ROWS(MACRO, type)                                                    \
    ROW(VMSTATE_##MACRO, type, VMSTATE_##MACRO(a, type))                            \
    ROW(VMSTATE_##MACRO##_V, type, VMSTATE_##MACRO##_V(a, type, 2))                 \
    ROW(VMSTATE_##MACRO##_TEST, type, VMSTATE_##MACRO##_TEST(a, type, since_2))
    SCALAR_ROWS(INT8, I8)
    SCALAR_ROWS(INT16, I16)
    SCALAR_ROWS(INT32, I32)
    SCALAR_ROWS(INT64, I64)
    SCALAR_ROWS(UINT8, U8)
    SCALAR_ROWS(UINT16, U16)
    SCALAR_ROWS(UINT32, U32)
    SCALAR_ROWS(UINT64, U64)
#define LINUX_ROWS(MACRO, type)                                                     \
    ROW(VMSTATE_##MACRO, type, VMSTATE_##MACRO(a, type))                            \
    ROW(VMSTATE_##MACRO##_V, type, VMSTATE_##MACRO##_V(a, type, 2))
    LINUX_ROWS(U8, LinuxU8)
    LINUX_ROWS(U16, LinuxU16)
    LINUX_ROWS(U32, LinuxU32)
    LINUX_ROWS(U64, LinuxU64)
    ROW(VMSTATE_SINGLE, U16, VMSTATE_SINGLE(a, U16, 2, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_SINGLE_TEST, U16,
        VMSTATE_SINGLE_TEST(a, U16, since_2, 0, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_SINGLE_FULL, U16,
        HINTED(VMSTATE_SINGLE_FULL, "see x=1",
               a, U16, NULL, 2, vmstate_info_uint16_equal, uint16_t))
    ROW(VMSTATE_POINTER, U16Pointer,
        VMSTATE_POINTER(a, U16Pointer, 2, vmstate_info_uint16, uint16_t *))
    ROW(VMSTATE_POINTER_TEST, U16Pointer,
        VMSTATE_POINTER_TEST(a, U16Pointer, since_2, vmstate_info_uint16, uint16_t *))

    ROW(VMSTATE_UINT8_EQUAL, U8, HINTED(VMSTATE_UINT8_EQUAL, NULL, a, U8))
    ROW(VMSTATE_UINT16_EQUAL, U16, HINTED(VMSTATE_UINT16_EQUAL, NULL, a, U16))
    ROW(VMSTATE_UINT16_EQUAL_V, U16, HINTED(VMSTATE_UINT16_EQUAL_V, NULL, a, U16, 2))
    ROW(VMSTATE_INT32_EQUAL, I32, HINTED(VMSTATE_INT32_EQUAL, NULL, a, I32))
    ROW(VMSTATE_UINT32_EQUAL, U32, HINTED(VMSTATE_UINT32_EQUAL, "see x=1", a, U32))
    ROW(VMSTATE_UINT32_EQUAL_V, U32, HINTED(VMSTATE_UINT32_EQUAL_V, NULL, a, U32, 2))
    ROW(VMSTATE_UINT64_EQUAL, U64, HINTED(VMSTATE_UINT64_EQUAL, NULL, a, U64))
    ROW(VMSTATE_UINT64_EQUAL_V, U64, HINTED(VMSTATE_UINT64_EQUAL_V, NULL, a, U64, 2))
    ROW(VMSTATE_INT32_POSITIVE_LE, I32, VMSTATE_INT32_POSITIVE_LE(a, I32))
    ROW(VMSTATE_VALIDATE, U8, VMSTATE_UINT8(a, U8), VMSTATE_VALIDATE("a < 200", is_below_200))

    FIELD_ONLY(VMSTATE_TIMER, Timer, VMSTATE_TIMER(a, Timer))
    FIELD_ONLY(VMSTATE_TIMER_V, Timer, VMSTATE_TIMER_V(a, Timer, 2))
    FIELD_ONLY(VMSTATE_TIMER_TEST, Timer, VMSTATE_TIMER_TEST(a, Timer, since_2))
    FIELD_ONLY(VMSTATE_TIMER_ARRAY, Timers, VMSTATE_TIMER_ARRAY(a, Timers, 3))
    FIELD_ONLY(VMSTATE_TIMER_PTR, TimerPointer, VMSTATE_TIMER_PTR(a, TimerPointer))
    FIELD_ONLY(VMSTATE_TIMER_PTR_V, TimerPointer, VMSTATE_TIMER_PTR_V(a, TimerPointer, 2))
    FIELD_ONLY(VMSTATE_TIMER_PTR_TEST, TimerPointer,
               VMSTATE_TIMER_PTR_TEST(a, TimerPointer, since_2))
    FIELD_ONLY(VMSTATE_TIMER_PTR_ARRAY, TimerPointers, VMSTATE_TIMER_PTR_ARRAY(a, TimerPointers, 3))

    ROW(VMSTATE_ARRAY, U16s, VMSTATE_ARRAY(a, U16s, 8, 2, vmstate_info_uint16, uint16_t))
#ifdef VMSTATE_ARRAY_TEST
    ROW(VMSTATE_ARRAY_TEST, U16s,
        VMSTATE_ARRAY_TEST(a, U16s, 8, since_2, vmstate_info_uint16, uint16_t))
#endif
    ROW(VMSTATE_2DARRAY, U16Grid,
        VMSTATE_2DARRAY(a, U16Grid, 2, 3, 2, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_SUB_ARRAY, U16s,
        VMSTATE_SUB_ARRAY(a, U16s, 2, 3, 2, vmstate_info_uint16, uint16_t))
#define ARRAY_ROWS(MACRO, type)                                                     \
    ROW(VMSTATE_##MACRO##_ARRAY, type, VMSTATE_##MACRO##_ARRAY(a, type, 8))         \
    ROW(VMSTATE_##MACRO##_ARRAY_V, type, VMSTATE_##MACRO##_ARRAY_V(a, type, 8, 2))
    ARRAY_ROWS(BOOL, Bools)
    ARRAY_ROWS(INT16, I16s)
    ARRAY_ROWS(INT32, I32s)
    ARRAY_ROWS(INT64, I64s)
    ARRAY_ROWS(UINT8, U8s)
    ARRAY_ROWS(UINT16, U16s)
    ARRAY_ROWS(UINT32, U32s)
    ARRAY_ROWS(UINT64, U64s)
#define SUB_ARRAY_ROW(MACRO, type) \
    ROW(VMSTATE_##MACRO##_SUB_ARRAY, type, VMSTATE_##MACRO##_SUB_ARRAY(a, type, 2, 3))
    SUB_ARRAY_ROW(BOOL, Bools)
    SUB_ARRAY_ROW(UINT8, U8s)
    SUB_ARRAY_ROW(UINT16, U16s)
    SUB_ARRAY_ROW(UINT32, U32s)
    SUB_ARRAY_ROW(UINT64, U64s)
#define GRID_ROWS(MACRO, type)                                                      \
    ROW(VMSTATE_##MACRO##_2DARRAY, type, VMSTATE_##MACRO##_2DARRAY(a, type, 2, 3))  \
    ROW(VMSTATE_##MACRO##_2DARRAY_V, type, VMSTATE_##MACRO##_2DARRAY_V(a, type, 2, 3, 2))
    GRID_ROWS(UINT8, U8Grid)
    GRID_ROWS(UINT16, U16Grid)
    GRID_ROWS(UINT32, U32Grid)
    GRID_ROWS(UINT64, U64Grid)
    ROW_AS(VMSTATE_CPUDOUBLE_ARRAY, "Doubles", DoublesC, VMSTATE_CPUDOUBLE_ARRAY(a, DoublesC, 3))
    ROW_AS(VMSTATE_CPUDOUBLE_ARRAY_V, "Doubles", DoublesC,
           VMSTATE_CPUDOUBLE_ARRAY_V(a, DoublesC, 3, 2))

    ROW(VMSTATE_ARRAY_INT32_UNSAFE, U16sInlineI32, N(INT32, U16sInlineI32),
        VMSTATE_ARRAY_INT32_UNSAFE(a, U16sInlineI32, n, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_VARRAY_UINT16_UNSAFE, U16sInlineU16, N(UINT16, U16sInlineU16),
        VMSTATE_VARRAY_UINT16_UNSAFE(a, U16sInlineU16, n, 2, vmstate_info_uint16, uint16_t))
#ifdef VMSTATE_VARRAY_MULTIPLY
    ROW(VMSTATE_VARRAY_MULTIPLY, U16sInlineU32, N(UINT32, U16sInlineU32),
        VMSTATE_VARRAY_MULTIPLY(a, U16sInlineU32, n, 2, vmstate_info_uint16, uint16_t))
#endif
    ROW(VMSTATE_VARRAY_INT32, U16sI32, N(INT32, U16sI32),
        VMSTATE_VARRAY_INT32(a, U16sI32, n, 2, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_VARRAY_UINT32, U16sU32, N(UINT32, U16sU32),
        VMSTATE_VARRAY_UINT32(a, U16sU32, n, 2, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_VARRAY_UINT32_ALLOC, U16sU32, N(UINT32, U16sU32),
        VMSTATE_VARRAY_UINT32_ALLOC(a, U16sU32, n, 2, vmstate_info_uint16, uint16_t))
    ROW(VMSTATE_VARRAY_UINT16_ALLOC, U16sU16, N(UINT16, U16sU16),
        VMSTATE_VARRAY_UINT16_ALLOC(a, U16sU16, n, 2, vmstate_info_uint16, uint16_t))
#ifdef VMSTATE_VARRAY_INT32_ALLOC
    ROW(VMSTATE_VARRAY_INT32_ALLOC, U16sI32, N(INT32, U16sI32),
        VMSTATE_VARRAY_INT32_ALLOC(a, U16sI32, n, 2, vmstate_info_uint16, uint16_t))
#endif

    ROW(VMSTATE_ARRAY_OF_POINTER, U16Pointers,
        VMSTATE_ARRAY_OF_POINTER(a, U16Pointers, 4, 2, vmstate_info_uint16,
                                 POINTER_TO(uint16_t)))
    ROW(VMSTATE_ARRAY_OF_POINTER_TO_STRUCT, PairPointers,
        VMSTATE_ARRAY_OF_POINTER_TO_STRUCT(a, PairPointers, 4, 2, vmstate_pair, Pair))
#ifdef VMSTATE_VARRAY_OF_POINTER_UINT32
    ROW(VMSTATE_VARRAY_OF_POINTER_UINT32, U16PointersU32, N(UINT32, U16PointersU32),
        VMSTATE_VARRAY_OF_POINTER_UINT32(a, U16PointersU32, n, 2, vmstate_info_uint16,
                                         POINTER_TO(uint16_t)))
#endif

    ROW(VMSTATE_STRUCT, Nested, VMSTATE_STRUCT(a, Nested, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_TEST, Nested,
        VMSTATE_STRUCT_TEST(a, Nested, since_2, 0, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_POINTER, NestedPointer,
        VMSTATE_STRUCT_POINTER(a, NestedPointer, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_POINTER_V, NestedPointer,
        VMSTATE_STRUCT_POINTER_V(a, NestedPointer, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_POINTER_TEST, NestedPointer,
        VMSTATE_STRUCT_POINTER_TEST(a, NestedPointer, since_2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_POINTER_TEST_V, NestedPointer,
        VMSTATE_STRUCT_POINTER_TEST_V(a, NestedPointer, since_2, 2, vmstate_pair, Pair))
    ROW(VMSTATE_VSTRUCT, Nested, VMSTATE_VSTRUCT(a, Nested, vmstate_versioned_pair, Pair, 1))
    ROW(VMSTATE_VSTRUCT_V, Nested,
        VMSTATE_VSTRUCT_V(a, Nested, 2, vmstate_versioned_pair, Pair, 1))
    ROW(VMSTATE_VSTRUCT_TEST, Nested,
        VMSTATE_VSTRUCT_TEST(a, Nested, since_2, 0, vmstate_versioned_pair, Pair, 1))
    ROW(VMSTATE_STRUCT_ARRAY, Pairs, VMSTATE_STRUCT_ARRAY(a, Pairs, 4, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_ARRAY_TEST, Pairs,
        VMSTATE_STRUCT_ARRAY_TEST(a, Pairs, 4, since_2, 0, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_SUB_ARRAY, Pairs,
        VMSTATE_STRUCT_SUB_ARRAY(a, Pairs, 1, 2, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_2DARRAY, PairGrid,
        VMSTATE_STRUCT_2DARRAY(a, PairGrid, 2, 3, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_2DARRAY_TEST, PairGrid,
        VMSTATE_STRUCT_2DARRAY_TEST(a, PairGrid, 2, 3, since_2, 0, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_UINT8, PairsU8, N(UINT8, PairsU8),
        VMSTATE_STRUCT_VARRAY_UINT8(a, PairsU8, n, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_INT32, PairsI32, N(INT32, PairsI32),
        VMSTATE_STRUCT_VARRAY_INT32(a, PairsI32, n, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_UINT32, PairsU32, N(UINT32, PairsU32),
        VMSTATE_STRUCT_VARRAY_UINT32(a, PairsU32, n, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_POINTER_KNOWN, PairsKnown,
        VMSTATE_STRUCT_VARRAY_POINTER_KNOWN(a, PairsKnown, 4, 2, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_POINTER_UINT16, PairsPointerU16, N(UINT16, PairsPointerU16),
        VMSTATE_STRUCT_VARRAY_POINTER_UINT16(a, PairsPointerU16, n, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_POINTER_INT32, PairsPointerI32, N(INT32, PairsPointerI32),
        VMSTATE_STRUCT_VARRAY_POINTER_INT32(a, PairsPointerI32, n, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_POINTER_UINT32, PairsPointerU32, N(UINT32, PairsPointerU32),
        VMSTATE_STRUCT_VARRAY_POINTER_UINT32(a, PairsPointerU32, n, vmstate_pair, Pair))
    ROW(VMSTATE_STRUCT_VARRAY_ALLOC, PairsPointerI32, N(INT32, PairsPointerI32),
        VMSTATE_STRUCT_VARRAY_ALLOC(a, PairsPointerI32, n, 2, vmstate_pair, Pair))

    ROW(VMSTATE_BUFFER, U8s, VMSTATE_BUFFER(a, U8s))
    ROW(VMSTATE_BUFFER_V, U8s, VMSTATE_BUFFER_V(a, U8s, 2))
    ROW(VMSTATE_BUFFER_TEST, U8s, VMSTATE_BUFFER_TEST(a, U8s, since_2))
    ROW(VMSTATE_STATIC_BUFFER, U8s, VMSTATE_STATIC_BUFFER(a, U8s, 2, NULL, 1, 6))
    ROW(VMSTATE_PARTIAL_BUFFER, U8s, VMSTATE_PARTIAL_BUFFER(a, U8s, 5))
    ROW(VMSTATE_BUFFER_START_MIDDLE, U8s, VMSTATE_BUFFER_START_MIDDLE(a, U8s, 3))
    ROW(VMSTATE_BUFFER_START_MIDDLE_V, U8s, VMSTATE_BUFFER_START_MIDDLE_V(a, U8s, 3, 2))
    ROW(VMSTATE_BUFFER_UNSAFE, U8s, VMSTATE_BUFFER_UNSAFE(a, U8s, 2, 5))
    ROW(VMSTATE_BUFFER_UNSAFE_INFO, U8s,
        VMSTATE_BUFFER_UNSAFE_INFO(a, U8s, 2, vmstate_info_buffer, 5))
    ROW(VMSTATE_BUFFER_UNSAFE_INFO_TEST, U8s,
        VMSTATE_BUFFER_UNSAFE_INFO_TEST(a, U8s, since_2, 0, vmstate_info_buffer, 5))
    ROW(VMSTATE_BUFFER_POINTER_UNSAFE, BytesPointer,
        VMSTATE_BUFFER_POINTER_UNSAFE(a, BytesPointer, 2, 8))
    ROW(VMSTATE_VBUFFER, BytesI32, N(INT32, BytesI32),
        VMSTATE_VBUFFER(a, BytesI32, 2, NULL, n))
    ROW(VMSTATE_VBUFFER_UINT32, BytesU32, N(UINT32, BytesU32),
        VMSTATE_VBUFFER_UINT32(a, BytesU32, 0, since_2, n))
#ifdef VMSTATE_VBUFFER_UINT64
    ROW(VMSTATE_VBUFFER_UINT64, BytesU64, N(UINT64, BytesU64),
        VMSTATE_VBUFFER_UINT64(a, BytesU64, 0, since_2, n))
#endif
    ROW(VMSTATE_VBUFFER_MULTIPLY, BytesU32, N(UINT32, BytesU32),
        VMSTATE_VBUFFER_MULTIPLY(a, BytesU32, 2, NULL, n, 2))
    ROW(VMSTATE_VBUFFER_ALLOC_UINT32, BytesU32, N(UINT32, BytesU32),
        VMSTATE_VBUFFER_ALLOC_UINT32(a, BytesU32, 2, NULL, n))
    ROW(VMSTATE_PARTIAL_VBUFFER, BytesI32, N(INT32, BytesI32),
        VMSTATE_PARTIAL_VBUFFER(a, BytesI32, n))
    ROW(VMSTATE_PARTIAL_VBUFFER_UINT32, BytesU32, N(UINT32, BytesU32),
        VMSTATE_PARTIAL_VBUFFER_UINT32(a, BytesU32, n))
    ROW(VMSTATE_BITMAP, Bits, N(INT32, Bits), VMSTATE_BITMAP(a, Bits, 2, n))
#ifdef VMSTATE_BITMAP_TEST
    ROW(VMSTATE_BITMAP_TEST, Bits, N(INT32, Bits), VMSTATE_BITMAP_TEST(a, Bits, since_2, 0, n))
#endif

    ROW(VMSTATE_UNUSED, U8, VMSTATE_UINT8(a, U8), VMSTATE_UNUSED(5))
    ROW(VMSTATE_UNUSED_V, U8, VMSTATE_UINT8(a, U8), VMSTATE_UNUSED_V(2, 5))
    ROW(VMSTATE_UNUSED_TEST, U8, VMSTATE_UINT8(a, U8), VMSTATE_UNUSED_TEST(since_2, 5))
    ROW(VMSTATE_UNUSED_BUFFER, U8, VMSTATE_UINT8(a, U8), VMSTATE_UNUSED_BUFFER(NULL, 2, 5))
    ROW(VMSTATE_UNUSED_VARRAY_UINT32, Count, N(UINT32, Count),
        VMSTATE_UNUSED_VARRAY_UINT32(Count, NULL, 2, n, 5))

    ROW(VMSTATE_WITH_TMP, U32, VMSTATE_WITH_TMP(U32, HalfTmp, vmstate_half))
#ifdef VMSTATE_WITH_TMP_TEST
    ROW(VMSTATE_WITH_TMP_TEST, U32, VMSTATE_WITH_TMP_TEST(U32, since_2, HalfTmp, vmstate_half))
#endif
    ROW_AS(VMSTATE_QTAILQ_V, "List", TailQ,
           VMSTATE_QTAILQ_V(a, TailQ, 1, vmstate_node, Node, tailq))
    ROW_AS(VMSTATE_QLIST_V, "List", QList, VMSTATE_QLIST_V(a, QList, 1, vmstate_node, Node, list))
    ROW(VMSTATE_GTREE_V, Tree, VMSTATE_GTREE_V(a, Tree, 1, vmstate_value_and_key, Pair, Pair))
    ROW(VMSTATE_GTREE_DIRECT_KEY_V, Tree,
        VMSTATE_GTREE_DIRECT_KEY_V(a, Tree, 1, vmstate_value_and_key, Pair))
};

const Row *reference_row(int i)
{
    return i < G_N_ELEMENTS(uses) ? &uses[i].row : NULL;
}

const void *reference_row_vmsd(int i)
{
    static VMStateDescription described[G_N_ELEMENTS(uses)];

    described[i].name = "s";
    described[i].version_id = 3;
    described[i].minimum_version_id = 1;
    described[i].fields = uses[i].fields;
    return &described[i];
}
