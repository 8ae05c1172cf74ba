// One mapping: its range, what backs it, and what it is for.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// What a mapping is for, as far as its line tells.
enum memprot_kind {
    MEMPROT_KIND_ANONYMOUS,     // private memory without a file
    MEMPROT_KIND_FILE,          // a file of some file system
    MEMPROT_KIND_HEAP,          // what brk(2) moves
    MEMPROT_KIND_STACK,         // the main thread's stack
    MEMPROT_KIND_VDSO,          // the kernel's functions for user space
    MEMPROT_KIND_VVAR,          // the data of those functions
    MEMPROT_KIND_VSYSCALL,      // the gate page of old x86-64 programs
    MEMPROT_KIND_MEMFD,         // a memfd_create(2) file
    MEMPROT_KIND_SHARED_MEMORY, // anonymous shared memory, shm_open(3), System V
    MEMPROT_KIND_SECRET,        // a memfd_secret(2) file
    MEMPROT_KIND_DEVICE,        // a file under /dev that is no shared memory
    MEMPROT_KIND_KERNEL,        // an object of the kernel: a ring of io_uring, perf or aio, uprobes
    MEMPROT_KIND_COUNT,
};

/// The values of `prot` are those of PROT_READ, PROT_WRITE and PROT_EXEC.
struct memprot_mapping {
    uint64_t start, stop; // addresses, half-open
    uint64_t offset;      // of start in the file, in bytes
    uint64_t inode;
    const char *path; // not ended by a zero byte; NULL: none. Mappings of one file that follow each other share it.
    uint32_t path_length;
    uint32_t device_major, device_minor;
    uint8_t prot;
    uint8_t kind;
    bool shared, deleted;
};

/// @return the lower-case name of a kind, such as "shared_memory". May run in a signal handler.
const char *memprot_kind_name(enum memprot_kind kind);

/// Settle path, path_length, deleted and kind of a mapping from its name as the kernel writes it, without
/// escapes.
///
/// A name of a file that ends in " (deleted)" is a deleted file, unless a file of that whole name exists with
/// the same device and inode.
///
/// @param[in] name ends with a zero byte and is not copied.
/// @param[in] live whether the file system may be asked; a saved text speaks of another time.
///         May run in a signal handler.
void memprot_mapping_name(struct memprot_mapping *mapping, const char *name, size_t length, bool live);

/// What a mapping is, from its path (suffix and escapes undone), `shared` and `deleted`. May run in a signal
/// handler.
enum memprot_kind memprot_mapping_kind(const struct memprot_mapping *mapping);
