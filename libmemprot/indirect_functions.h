// The names of implementations that the dynamic linker chooses for this CPU: memmove runs in a local function that
// the symbol tables of a stripped library do not name.
#pragma once

#include "elf_functions.h"

#include <stdbool.h>
#include <stdint.h>

struct memprot_indirect_function {
    const char *name;
    /// Its first instruction, as an address of this process.
    uintptr_t start;
};

/// Find the indirect function (STT_GNU_IFUNC) whose implementation an address of this process lies in.
///
/// Nothing is guessed: the unwind table tells where the function around @p pc starts, and that must be the very
/// address that a name of the same object resolves to. memcpy and memmove may share an implementation, and have the
/// name of the one that allows an overlap. Not for signal handlers: the dynamic linker resolves the names of an
/// object when it is first asked about. Source: the ELF gABI's GNU extensions, dlsym(3).
/// @param elf,bias The object, and what the process adds to its virtual addresses.
/// @param[out] ret The name stays valid until the process ends.
/// @return Whether there is one.
bool memprot_indirect_function_find(const struct memprot_elf *elf, uintptr_t bias, uintptr_t pc,
                                    struct memprot_indirect_function *ret);

/// As memprot_indirect_function_find(), for objects that it was asked about before; of others nothing is known. May run
/// in a signal handler.
bool memprot_indirect_function_find_known(const struct memprot_elf *elf, uintptr_t bias, uintptr_t pc,
                                          struct memprot_indirect_function *ret);
