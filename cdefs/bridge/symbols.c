/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/symbols.h"

typedef struct {
    const char *file; /* owner: this process, mapped once and never unmapped */
    size_t size;
    const ElfW(Sym) * symbols;
    size_t count;
    const char *names;
    size_t names_size;
    uintptr_t bias;
} Executable;

static int first_object(struct dl_phdr_info *info, size_t size, void *bias)
{
    (void)size;
    *(uintptr_t *)bias = info->dlpi_addr;
    return 1;
}

static bool inside(const Executable *exe, size_t offset, size_t length)
{
    return offset <= exe->size && length <= exe->size - offset;
}

static void read_symtab(Executable *exe)
{
    const ElfW(Ehdr) *header = (const void *)exe->file;
    const ElfW(Shdr) * sections;
    size_t i;

    if (!inside(exe, 0, sizeof(*header)) || memcmp(exe->file, ELFMAG, SELFMAG)
        || header->e_shentsize != sizeof(*sections)
        || !inside(exe, header->e_shoff, (size_t)header->e_shnum * sizeof(*sections))) {
        return;
    }
    sections = (const void *)(exe->file + header->e_shoff);
    for (i = 0; i < header->e_shnum; i++) {
        const ElfW(Shdr) *table = &sections[i], *strings;

        if (table->sh_type != SHT_SYMTAB || table->sh_link >= header->e_shnum) {
            continue;
        }
        strings = &sections[table->sh_link];
        if (inside(exe, table->sh_offset, table->sh_size)
            && inside(exe, strings->sh_offset, strings->sh_size)) {
            exe->symbols = (const void *)(exe->file + table->sh_offset);
            exe->count = table->sh_size / sizeof(*exe->symbols);
            exe->names = exe->file + strings->sh_offset;
            exe->names_size = strings->sh_size;
        }
        return;
    }
}

static const Executable *this_executable(void)
{
    static Executable exe;
    static bool tried;
    struct stat st;
    void *map;
    int fd;

    if (tried) {
        return &exe;
    }
    tried = true;
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return &exe;
    }
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        map = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map != MAP_FAILED) {
            exe.file = map;
            exe.size = st.st_size;
            dl_iterate_phdr(first_object, &exe.bias);
            read_symtab(&exe);
        }
    }
    close(fd);
    return &exe;
}

void *qv_find_symbol(const char *name)
{
    const Executable *exe;
    void *found = dlsym(RTLD_DEFAULT, name);
    size_t i, length = strlen(name);

    if (found) {
        return found;
    }
    exe = this_executable();
    for (i = 0; i < exe->count; i++) {
        const ElfW(Sym) *symbol = &exe->symbols[i];
        unsigned type = ELF64_ST_TYPE(symbol->st_info);

        if (symbol->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT)
            && symbol->st_name < exe->names_size && exe->names_size - symbol->st_name > length
            && !memcmp(exe->names + symbol->st_name, name, length + 1)) {
            return (void *)(exe->bias + symbol->st_value);
        }
    }
    return NULL;
}
