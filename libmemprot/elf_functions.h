// The functions that an ELF file names, static ones included, and where its segments belong.
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// One symbol of type function or indirect function with a size.
struct memprot_elf_function {
    /// Virtual address in the file; the process adds the load bias.
    uint64_t start;
    /// Bytes.
    uint64_t size;
    const char *name;
    /// Of several symbols for one address the highest is the name: global, weak, local.
    unsigned char rank;
    /// The bytes are those of the resolver that chooses an implementation (STT_GNU_IFUNC), not its own.
    bool indirect;
};

/// What was read from one file. Lives until the process ends, so its strings may be kept.
struct memprot_elf {
    const char *path;
    /// Of the program headers and notes, see memprot_elf_identity_add().
    uint64_t identity;
    /// The lowest virtual address of a loaded segment.
    uint64_t load_address;
    const Elf64_Phdr *segments;
    size_t segment_count;
    const struct memprot_elf_function *functions;
    size_t function_count;
};

/// Read an ELF file, or find it among those read before.
///
/// Nothing in the file is trusted: what points outside of it is an error, what makes no sense is left out. A
/// file that was replaced is read again. May run in a signal handler. Source: elf(5).
/// @return NULL with errno set: that of the failed call, or ENOEXEC for anything but a regular 64-bit ELF
/// file.
const struct memprot_elf *memprot_elf_read(const char *path);

/// May run in a signal handler.
/// @return The function, not an indirect one, whose bytes include @p address, or NULL.
/// @param address Virtual address in the file.
const struct memprot_elf_function *memprot_elf_find_function(const struct memprot_elf *elf, uint64_t address);

/// Where memprot_elf_identity_add() starts.
static const uint64_t MEMPROT_ELF_IDENTITY_START = 0xcbf29ce484222325;

/// Hash some more bytes (FNV-1a). The identity of an object is that of its program headers, followed by the
/// bytes of each PT_NOTE segment, one of which is the build id: two builds of a library differ.
uint64_t memprot_elf_identity_add(uint64_t identity, const void *bytes, size_t size);
