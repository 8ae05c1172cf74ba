// The mappings of a process, read from its /proc/PID/maps.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// PATH_MAX, the most that memprot_maps_query writes.
enum { MEMPROT_NAME_SIZE = 4096 };

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

/// One reading of an address space; owns the mappings and their paths.
struct memprot_maps {
    struct memprot_mapping *mappings;
    size_t count, capacity;
    struct memprot_path_block *paths;
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

void memprot_maps_init(struct memprot_maps *ret);
void memprot_maps_deinit(struct memprot_maps *maps);

/// Read every mapping from an open /proc/PID/maps, in the order of their addresses and without overlaps.
///
/// The kernel writes the text a page at a time, and other threads map and unmap in between: a reading with
/// overlapping lines is thrown away and tried again; after a few of those the overlaps are clipped.
///
/// @param[in] fd is read from its beginning, whatever its position.
/// @param[out] ret initialised; holds what was read, also on failure.
/// @return 0, or -1 with errno set: ESRCH when the address space is gone (the process exited or called
/// execve),
///         EBADMSG when the text is not of the form proc_pid_maps(5) describes, ENOMEM, or what read(2) sets.
int memprot_maps_read(int fd, struct memprot_maps *ret);

/// The same for a text that was saved earlier: overlapping lines are clipped, those out of order left out.
/// @param[out] line the number of the last line looked at, from 1; on EBADMSG the one that is wrong.
int memprot_maps_parse(const char *text, size_t length, struct memprot_maps *ret, size_t *line);

/// The mapping that holds an address, or NULL, by bisection.
const struct memprot_mapping *memprot_maps_at(const struct memprot_maps *maps, uint64_t address);

/// Ask the kernel for the mapping that holds an address (PROCMAP_QUERY, Linux 6.11): no text is read.
///
/// The gate page [vsyscall] stands in the text but is unknown to this question; memprot_maps_find knows it.
///
/// @param[out] path takes the path of the mapping; ret->path points into it.
/// @return 1 found, 0 no mapping there, -1 with errno set: ENOTTY where the kernel lacks the question,
///         ENAMETOOLONG when capacity is too small, ESRCH when the address space is gone.
///         May run in a signal handler.
int memprot_maps_query(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity);

/// The mapping that holds an address, as memprot_maps_read would give it: by question, otherwise by the text.
///
/// @param[out] maps initialised; owns what ret points to, and may hold more than that.
/// @param[out] ret NULL when no mapping holds the address.
/// @return 0, or -1 with errno set as memprot_maps_read does.
int memprot_maps_find(int fd, uint64_t address, struct memprot_maps *maps, const struct memprot_mapping **ret);
