// The dynamic section of a loaded object: the functions it offers, and the slots through which it calls those of
// others.
#pragma once

#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memprot_linkage {
    uintptr_t bias;
    const ElfW(Phdr) * segments;
    size_t segment_count;
    const ElfW(Sym) * symbols;
    const char *strings;
    size_t strings_size;
    const uint32_t *hash; // DT_GNU_HASH; NULL where there is none
    struct {
        const ElfW(Rela) * rows;
        size_t count;
    } relocations[2]; // the general ones, those for calls
};

/// A slot for the address of a function that the object does not define itself.
struct memprot_slot {
    _Atomic(uintptr_t) *address;
    const char *name;
    bool lazy; // may be filled at the first call
    bool weak; // may stay empty
};

/// What an object given by dl_iterate_phdr has. Nothing in it is trusted that would lead outside of it.
/// @return false when it imports nothing, or is not made as expected.
bool memprot_linkage_read(const struct dl_phdr_info *info, struct memprot_linkage *ret);

/// Whether the bytes lie in one loaded segment that has the flags (PF_W, PF_X).
bool memprot_linkage_segment(const struct memprot_linkage *object, uintptr_t address, size_t size, unsigned flags);

/// The slots one by one. @param[in,out] at 0 at first.
/// @return false when there is none left.
bool memprot_linkage_next(const struct memprot_linkage *object, size_t *at, struct memprot_slot *ret);

/// Whether the object offers a function of that name to others.
bool memprot_linkage_defines(const struct memprot_linkage *object, const char *name);
