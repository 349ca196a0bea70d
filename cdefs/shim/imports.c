/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replacement of imported functions, in the table of addresses that the dynamic linker has filled
 * for one loaded object.  A preloaded library could replace them by symbols of its own, but a
 * plugin, which is opened later, could not.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/imports.h"

typedef struct {
    uintptr_t bias, start, end;
    uintptr_t relro_start, relro_end; /* what the dynamic linker has made read-only */
    const ElfW(Dyn) * dynamic;
} Object;

typedef struct {
    uintptr_t address; /* 0: the executable, which is the first object */
    Object found;
} Search;

static int examine(struct dl_phdr_info *info, size_t size, void *opaque)
{
    Search *search = opaque;
    Object object = { .bias = info->dlpi_addr, .start = UINTPTR_MAX };
    int i;

    (void)size;
    for (i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;

        if (segment->p_type == PT_LOAD) {
            object.start = start < object.start ? start : object.start;
            object.end = end > object.end ? end : object.end;
        } else if (segment->p_type == PT_GNU_RELRO) {
            object.relro_start = start;
            object.relro_end = end;
        } else if (segment->p_type == PT_DYNAMIC) {
            object.dynamic = (const void *)start;
        }
    }
    if (search->address && (search->address < object.start || search->address >= object.end)) {
        return 0;
    }
    search->found = object;
    return 1;
}

static Object object_with(const void *inside)
{
    Search search = { .address = (uintptr_t)inside };

    dl_iterate_phdr(examine, &search);
    return search.found;
}

static const Object *executable(void)
{
    static Object object;

    if (!object.end) {
        object = object_with(NULL);
    }
    return &object;
}

const void *qv_inside_executable(void)
{
    return (const void *)executable()->start;
}

bool qv_is_in_executable(const void *address)
{
    return (uintptr_t)address >= executable()->start && (uintptr_t)address < executable()->end;
}

static bool store(const Object *object, void **slot, void *function)
{
    uintptr_t page_size = sysconf(_SC_PAGESIZE), address = (uintptr_t)slot;
    void *page = (void *)(address & ~(page_size - 1));
    /* A page of which only a part is relro stays writable: not all processors' are of 4 KiB. */
    bool read_only =
        address >= object->relro_start && address < (object->relro_end & ~(page_size - 1));

    if (read_only && mprotect(page, page_size, PROT_READ | PROT_WRITE)) {
        return false;
    }
    __atomic_store_n(slot, function, __ATOMIC_SEQ_CST);
    if (read_only) {
        mprotect(page, page_size, PROT_READ);
    }
    return true;
}

/* The dynamic section's value for tag, or 0. */
static uintptr_t dynamic_value(const Object *object, ElfW(Sxword) tag)
{
    const ElfW(Dyn) * entry;

    for (entry = object->dynamic; entry && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == tag) {
            return entry->d_un.d_ptr;
        }
    }
    return 0;
}

/* Where the dynamic section's table tag is; glibc relocates its address, but not on RISC-V. */
static const void *dynamic_table(const Object *object, ElfW(Sxword) tag)
{
    uintptr_t address = dynamic_value(object, tag);

    return (const void *)(address && address < object->start ? object->bias + address : address);
}

/*
 * Only a relocation of a function's address can name a function that the object imports, so the
 * type, which has a number of its own on each processor, does not matter.
 */
static bool replace_in(const Object *object, const ElfW(Rela) * entry, size_t size,
                       const char *name, void *function)
{
    const ElfW(Sym) *symbols = dynamic_table(object, DT_SYMTAB), *symbol;
    const char *names = dynamic_table(object, DT_STRTAB);
    const ElfW(Rela) *end = (const void *)((const char *)entry + size);
    bool replaced = false;

    for (; entry && entry < end; entry++) {
        symbol = &symbols[ELF64_R_SYM(entry->r_info)];
        if (symbol->st_shndx == SHN_UNDEF && !strcmp(names + symbol->st_name, name)) {
            replaced |= store(object, (void **)(object->bias + entry->r_offset), function);
        }
    }
    return replaced;
}

bool qv_replace_import(const void *inside, const char *name, void *function)
{
    Object object = object_with(inside);
    bool called, pointed_at;

    called = replace_in(&object, dynamic_table(&object, DT_JMPREL),
                        dynamic_value(&object, DT_PLTRELSZ), name, function);
    pointed_at = replace_in(&object, dynamic_table(&object, DT_RELA),
                            dynamic_value(&object, DT_RELASZ), name, function);
    return called || pointed_at;
}
