#include "linkage.h"

#include <string.h>

#if defined(__x86_64__)
enum { SLOT_FOR_CALLS = R_X86_64_JUMP_SLOT, SLOT_FOR_DATA = R_X86_64_GLOB_DAT };
#elif defined(__aarch64__)
enum { SLOT_FOR_CALLS = R_AARCH64_JUMP_SLOT, SLOT_FOR_DATA = R_AARCH64_GLOB_DAT };
#endif

bool memprot_linkage_segment(const struct memprot_linkage *object, uintptr_t address, size_t size, unsigned flags) {
    for (size_t i = 0; i < object->segment_count; i++) {
        const ElfW(Phdr) *segment = &object->segments[i];
        uintptr_t offset = address - (object->bias + segment->p_vaddr);
        if (segment->p_type == PT_LOAD && (segment->p_flags & flags) == flags && offset < segment->p_memsz &&
            size <= segment->p_memsz - offset)
            return true;
    }
    return false;
}

// The linker turns most addresses of a dynamic section into true ones when it loads the object; some linkers, and those
// of objects just being loaded, are as in the file. NULL when @p size bytes from there on are not all the object's.
static const void *at(const struct memprot_linkage *object, uintptr_t address, size_t size) {
    if (address < object->bias)
        address += object->bias;
    return memprot_linkage_segment(object, address, size, PF_R) ? (const void *)address : NULL;
}

static const ElfW(Dyn) * find_dynamic(const struct memprot_linkage *object, size_t *count) {
    for (size_t i = 0; i < object->segment_count; i++) {
        const ElfW(Phdr) *segment = &object->segments[i];
        if (segment->p_type == PT_DYNAMIC) {
            *count = segment->p_memsz / sizeof(ElfW(Dyn));
            return at(object, object->bias + segment->p_vaddr, segment->p_memsz);
        }
    }
    return NULL;
}

bool memprot_linkage_read(const struct dl_phdr_info *info, struct memprot_linkage *ret) {
    *ret = (struct memprot_linkage){
        .bias = info->dlpi_addr, .segments = info->dlpi_phdr, .segment_count = info->dlpi_phnum};
    uintptr_t values[DT_NUM] = {0}, hash = 0, relative = 0;
    size_t count = 0;
    const ElfW(Dyn) *dynamic = find_dynamic(ret, &count);
    for (size_t i = 0; dynamic && i < count && dynamic[i].d_tag != DT_NULL; i++) {
        uintptr_t value = dynamic[i].d_un.d_val;
        if (dynamic[i].d_tag > 0 && dynamic[i].d_tag < DT_NUM)
            values[dynamic[i].d_tag] = value;
        else if (dynamic[i].d_tag == DT_GNU_HASH)
            hash = value;
        else if (dynamic[i].d_tag == DT_RELACOUNT)
            relative = value;
    }
    ret->strings_size = values[DT_STRSZ];
    ret->symbols = at(ret, values[DT_SYMTAB], sizeof *ret->symbols);
    ret->strings = at(ret, values[DT_STRTAB], ret->strings_size);
    ret->hash = hash ? at(ret, hash, 4 * sizeof *ret->hash) : NULL;
    if (!ret->symbols || !ret->strings || ret->strings_size == 0 || ret->strings[ret->strings_size - 1] != '\0' ||
        (values[DT_RELAENT] && values[DT_RELAENT] != sizeof(ElfW(Rela))) ||
        (values[DT_PLTREL] && values[DT_PLTREL] != DT_RELA))
        return false;
    const uintptr_t tables[2] = {values[DT_RELA], values[DT_JMPREL]};
    const uintptr_t sizes[2] = {values[DT_RELASZ], values[DT_PLTRELSZ]};
    for (size_t i = 0; i < 2; i++) {
        ret->relocations[i].rows = sizes[i] ? at(ret, tables[i], sizes[i]) : NULL;
        ret->relocations[i].count = ret->relocations[i].rows ? sizes[i] / sizeof(ElfW(Rela)) : 0;
    }
    // Relocations without a symbol, most of all, come first.
    if (relative <= ret->relocations[0].count) {
        ret->relocations[0].rows += relative;
        ret->relocations[0].count -= relative;
    }
    return true;
}

static const ElfW(Sym) * symbol_at(const struct memprot_linkage *object, size_t index) {
    const ElfW(Sym) *symbol = object->symbols + index;
    return memprot_linkage_segment(object, (uintptr_t)symbol, sizeof *symbol, PF_R) &&
                   symbol->st_name < object->strings_size
               ? symbol
               : NULL;
}

bool memprot_linkage_next(const struct memprot_linkage *object, size_t *at_row, struct memprot_slot *ret) {
    size_t general = object->relocations[0].count, all = general + object->relocations[1].count;
    while (*at_row < all) {
        size_t i = (*at_row)++;
        const ElfW(Rela) *row =
            i < general ? &object->relocations[0].rows[i] : &object->relocations[1].rows[i - general];
        unsigned type = ELF64_R_TYPE(row->r_info);
        uintptr_t address = object->bias + row->r_offset;
        if ((type != SLOT_FOR_CALLS && type != SLOT_FOR_DATA) || row->r_addend != 0 || address % sizeof address != 0)
            continue;
        const ElfW(Sym) *symbol = symbol_at(object, ELF64_R_SYM(row->r_info));
        if (!symbol || symbol->st_shndx != SHN_UNDEF || symbol->st_value != 0)
            continue;
        *ret = (struct memprot_slot){
            .address = (_Atomic(uintptr_t) *)address,
            .name = object->strings + symbol->st_name,
            .lazy = type == SLOT_FOR_CALLS,
            .weak = ELF64_ST_BIND(symbol->st_info) == STB_WEAK,
        };
        return true;
    }
    return false;
}

// Source: "GNU hash ELF sections" by Ali Bahrami; binutils, bfd/elflink.c.
bool memprot_linkage_defines(const struct memprot_linkage *object, const char *name) {
    if (!object->hash)
        return false;
    uint32_t hash = 5381;
    for (const char *c = name; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    uint32_t buckets = object->hash[0], first = object->hash[1], words = object->hash[2], shift = object->hash[3];
    const uint64_t *filter = (const uint64_t *)(object->hash + 4);
    const uint32_t *bucket = (const uint32_t *)(filter + words), *chain = bucket + buckets;
    if (buckets == 0 || words == 0 ||
        !memprot_linkage_segment(object, (uintptr_t)filter, (uintptr_t)chain - (uintptr_t)filter, PF_R))
        return false;
    uint64_t word = filter[hash / 64 % words];
    if (!(word >> hash % 64 & word >> (hash >> shift) % 64 & 1))
        return false;
    uint32_t index = bucket[hash % buckets];
    for (; index >= first; index++) {
        const ElfW(Sym) *symbol = symbol_at(object, index);
        const uint32_t *found = chain + (index - first);
        if (!symbol || !memprot_linkage_segment(object, (uintptr_t)found, sizeof *found, PF_R))
            return false;
        if ((*found | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF &&
            strcmp(object->strings + symbol->st_name, name) == 0)
            return true;
        if (*found & 1)
            return false;
    }
    return false;
}
