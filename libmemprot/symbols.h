// Addresses of code: which function of which library, for this process and for files.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct memprot_symbol {
    /// As the symbol table has it (not demangled); NULL when no symbol covers the address.
    const char *function;
    /// Path of the object, NULL where there is none (code made at run time).
    const char *library;
    /// Bytes from the start of the function; from where the library is loaded when the function is not known.
    uint64_t offset;
    /// Virtual address in the file at @ref library; only where that was read, and is the one that was loaded.
    uint64_t position;
    bool has_position;
};

/// Find the function at an address of this process. Static functions are found too, where the file has a full
/// symbol table, and so are the implementations that an indirect function (memmove) has for this CPU; the dynamic
/// linker is asked where the file cannot be read or is no longer the one that was
/// loaded.
///
/// Not for signal handlers: takes the dynamic linker's lock, allocates, reads files (each once).
/// Source: dl_iterate_phdr(3), dladdr(3), elf(5).
/// @param pc An address inside an instruction. The frame of a caller is known by its return address, which
/// may be
///     the first of the next function: for it pass the return address minus 1.
/// @param[out] ret Its strings stay valid as long as the object stays loaded. All zero when the answer is
/// false.
/// @return Whether the address lies in a loaded object.
bool memprot_symbol_find(uintptr_t pc, struct memprot_symbol *ret);

/// As memprot_symbol_find(), without locks and malloc(3). Not named are functions of objects whose file is gone or has
/// been replaced, and implementations of indirect functions in objects that memprot_symbol_find() was never asked
/// about. May run in a signal handler.
bool memprot_symbol_find_in_handler(uintptr_t pc, struct memprot_symbol *ret);

/// Find the function at a virtual address of an ELF file, for the code of another process. The implementations of
/// indirect functions have a name when this process has the same file loaded.
/// @param address The other process' address minus the load bias of the object.
/// @param[out] ret Its strings stay valid until the process ends.
/// @return Whether the file could be read; else errno is set, ENOEXEC for anything but a 64-bit ELF file.
bool memprot_symbol_find_in_file(const char *path, uint64_t address, struct memprot_symbol *ret);

/// As memprot_symbol_find_in_file(), by offset in the file: what a line of /proc/PID/maps gives,
/// address - start + offset.
bool memprot_symbol_find_at_file_offset(const char *path, uint64_t offset, struct memprot_symbol *ret);
