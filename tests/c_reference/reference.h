/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plain C without include, macro or attribute, because cffi reads this file too. */

typedef struct Field {              /* VMStateField's members; flags 0 and no name past the last */
    const char *name;
    const char *err_hint;
    const char *info;               /* info->name */
    const char *vmsd;               /* vmsd->name */
    unsigned long offset, size, start, num_offset, size_offset;
    int num, flags, version_id, struct_version_id, tested;
} Field;

Field reference_field(const void *vmsd, int i);

typedef struct Saved {              /* one vmstate_save_state(); reference_free() frees what it holds */
    int ret;
    unsigned char *data;
    unsigned long size;
    char *vmdesc;
    char *error;
} Saved;

Saved reference_save(const void *vmsd, void *opaque, int version_id);
/* vmstate_load_state() on data and the one byte that follows a section; *error: reference_free(). */
int reference_load(const void *vmsd, void *opaque, int version_id, const void *data,
              unsigned long size, char **error);
void reference_free(void *p);

/* A device of devices.c, or a table of the tree's tests/unit/test-vmstate.c; NULL past the last. */
typedef struct Device {
    const char *name;
    const void *vmsd;
    int version_id;
    const char *type;               /* the struct below; NULL if only make() knows it */
    unsigned long size;
    void *(*make)(void);            /* QEMU's own object of the test, which nobody frees */
} Device;

const Device *reference_device(int i);

/* For each VMSTATE_* macro a description of version 3, with its field as the last. */
typedef struct Row {
    const char *macro;
    const char *type;               /* the struct below that it describes */
    unsigned long size;             /* its sizeof */
} Row;

const Row *reference_row(int i);
const void *reference_row_vmsd(int i);

/* --- what the rows describe */
typedef struct Bool { bool a; } Bool;
typedef struct I8 { int8_t a; } I8;
typedef struct I16 { int16_t a; } I16;
typedef struct I32 { int32_t a; } I32;
typedef struct I64 { int64_t a; } I64;
typedef struct U8 { uint8_t a; } U8;
typedef struct U16 { uint16_t a; } U16;
typedef struct U32 { uint32_t a; } U32;
typedef struct U64 { uint64_t a; } U64;
typedef struct LinuxU8 { __u8 a; } LinuxU8;
typedef struct LinuxU16 { __u16 a; } LinuxU16;
typedef struct LinuxU32 { __u32 a; } LinuxU32;
typedef struct LinuxU64 { __u64 a; } LinuxU64;

typedef struct Bools { bool a[8]; } Bools;
typedef struct I16s { int16_t a[8]; } I16s;
typedef struct I32s { int32_t a[8]; } I32s;
typedef struct I64s { int64_t a[8]; } I64s;
typedef struct U8s { uint8_t a[8]; } U8s;
typedef struct U16s { uint16_t a[8]; } U16s;
typedef struct U32s { uint32_t a[8]; } U32s;
typedef struct U64s { uint64_t a[8]; } U64s;
typedef struct U8Grid { uint8_t a[2][3]; } U8Grid;
typedef struct U16Grid { uint16_t a[2][3]; } U16Grid;
typedef struct U32Grid { uint32_t a[2][3]; } U32Grid;
typedef struct U64Grid { uint64_t a[2][3]; } U64Grid;
typedef struct Doubles { double a[3]; } Doubles;

typedef struct Pair { uint8_t x; uint32_t y; } Pair;
typedef struct Nested { Pair a; } Nested;
typedef struct NestedPointer { Pair *a; } NestedPointer;
typedef struct Pairs { Pair a[4]; } Pairs;
typedef struct PairGrid { Pair a[2][3]; } PairGrid;
typedef struct PairPointers { Pair *a[4]; } PairPointers;
typedef struct PairsKnown { Pair *a; } PairsKnown;
typedef struct PairsU8 { uint8_t n; Pair a[4]; } PairsU8;
typedef struct PairsI32 { int32_t n; Pair a[4]; } PairsI32;
typedef struct PairsU32 { uint32_t n; Pair a[4]; } PairsU32;
typedef struct PairsPointerU16 { uint16_t n; Pair *a; } PairsPointerU16;
typedef struct PairsPointerI32 { int32_t n; Pair *a; } PairsPointerI32;
typedef struct PairsPointerU32 { uint32_t n; Pair *a; } PairsPointerU32;

typedef struct U16Pointer { uint16_t *a; } U16Pointer;
typedef struct U16Pointers { uint16_t *a[4]; } U16Pointers;
typedef struct U16PointersU32 { uint32_t n; uint16_t **a; } U16PointersU32;
typedef struct U16sInlineI32 { int32_t n; uint16_t a[8]; } U16sInlineI32;
typedef struct U16sInlineU16 { uint16_t n; uint16_t a[8]; } U16sInlineU16;
typedef struct U16sInlineU32 { uint32_t n; uint16_t a[8]; } U16sInlineU32;
typedef struct U16sI32 { int32_t n; uint16_t *a; } U16sI32;
typedef struct U16sU16 { uint16_t n; uint16_t *a; } U16sU16;
typedef struct U16sU32 { uint32_t n; uint16_t *a; } U16sU32;

typedef struct BytesPointer { uint8_t *a; } BytesPointer;
typedef struct BytesI32 { int32_t n; uint8_t *a; } BytesI32;
typedef struct BytesU32 { uint32_t n; uint8_t *a; } BytesU32;
typedef struct BytesU64 { uint64_t n; uint8_t *a; } BytesU64;
typedef struct Bits { int32_t n; unsigned long *a; } Bits;
typedef struct Count { uint32_t n; } Count;

/* QTAILQ, QLIST and GTREE: filled by functions, a pair at a time. */
typedef struct List { unsigned long head[2]; } List;
void reference_qtailq_append(List *list, Pair value);
void reference_qlist_append(List *list, Pair value);
typedef struct Tree { void *a; } Tree;
void reference_tree_insert(Tree *tree, uint64_t key, Pair value);       /* VMSTATE_GTREE_DIRECT_KEY_V */
void reference_tree_insert_pair(Tree *tree, Pair key, Pair value);      /* VMSTATE_GTREE_V */
/* Store their elements in order, at most max, and the keys of a tree of pairs; return how many. */
int reference_qtailq_get(const List *list, Pair *values, int max);
int reference_qlist_get(const List *list, Pair *values, int max);
int reference_tree_get(const Tree *tree, uint64_t *keys, Pair *pair_keys, Pair *values, int max);

/* --- the devices */
typedef struct Channel { bool active; uint16_t used; uint16_t fifo[4]; } Channel;
typedef struct Mixed {
    uint32_t serial;
    Pair pair;
    uint8_t channels_n;
    Channel channels[4];
    int32_t length;
    uint8_t *text;
    uint32_t words_n;
    uint32_t *words;
    int32_t bits_n;
    unsigned long *bits;
    Pair *slots[3];
    uint16_t regs[8];
    uint8_t ram[16];
    int64_t last;
} Mixed;

typedef struct Port { uint8_t a; uint16_t extra; } Port;
typedef struct Subs {
    uint32_t base;
    Port ports[3];
    uint16_t one;
    uint32_t two;
    uint64_t deep;
} Subs;

typedef struct Cell { uint8_t kind; uint32_t value; } Cell;
typedef struct Cells { Cell cells[3]; uint8_t end; } Cells;

typedef struct Message { uint8_t a; uint32_t n; uint8_t *data; uint16_t b; } Message;
typedef struct Mailbox { Message first; uint8_t c; Message rest[2]; } Mailbox;

typedef struct Grown { uint8_t a; uint16_t b; uint32_t c; uint8_t d; Pair old, now; } Grown;
