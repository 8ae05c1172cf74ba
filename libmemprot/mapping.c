// What the name at the end of a line of /proc/PID/maps says about the mapping.
#include "mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

// May run in a signal handler.
static bool starts_with(const struct memprot_mapping *mapping, const char *prefix) {
    size_t length = strlen(prefix);
    return mapping->path_length >= length && memcmp(mapping->path, prefix, length) == 0;
}

// May run in a signal handler.
static bool equals(const struct memprot_mapping *mapping, const char *name) {
    return mapping->path_length == strlen(name) && starts_with(mapping, name);
}

// May run in a signal handler.
const char *memprot_kind_name(enum memprot_kind kind) {
    static const char *const names[MEMPROT_KIND_COUNT] = {
        [MEMPROT_KIND_ANONYMOUS] = "anonymous",
        [MEMPROT_KIND_FILE] = "file",
        [MEMPROT_KIND_HEAP] = "heap",
        [MEMPROT_KIND_STACK] = "stack",
        [MEMPROT_KIND_VDSO] = "vdso",
        [MEMPROT_KIND_VVAR] = "vvar",
        [MEMPROT_KIND_VSYSCALL] = "vsyscall",
        [MEMPROT_KIND_MEMFD] = "memfd",
        [MEMPROT_KIND_SHARED_MEMORY] = "shared_memory",
        [MEMPROT_KIND_SECRET] = "secret",
        [MEMPROT_KIND_DEVICE] = "device",
        [MEMPROT_KIND_KERNEL] = "kernel",
    };
    return names[kind];
}

// May run in a signal handler.
static enum memprot_kind bracketed_kind(const struct memprot_mapping *mapping) {
    if (equals(mapping, "[heap]"))
        return MEMPROT_KIND_HEAP;
    if (starts_with(mapping, "[stack"))
        return MEMPROT_KIND_STACK;
    if (starts_with(mapping, "[anon:"))
        return MEMPROT_KIND_ANONYMOUS;
    if (starts_with(mapping, "[anon_shmem:"))
        return MEMPROT_KIND_SHARED_MEMORY;
    if (equals(mapping, "[vdso]"))
        return MEMPROT_KIND_VDSO;
    if (starts_with(mapping, "[vvar"))
        return MEMPROT_KIND_VVAR;
    if (equals(mapping, "[vsyscall]"))
        return MEMPROT_KIND_VSYSCALL;
    return MEMPROT_KIND_KERNEL;
}

// Files of the kernel's own mounts never had a name in a directory, so they always read as deleted.
// May run in a signal handler.
static enum memprot_kind nameless_file_kind(const struct memprot_mapping *mapping) {
    if (starts_with(mapping, "/memfd:"))
        return MEMPROT_KIND_MEMFD;
    if (equals(mapping, "/dev/zero") || starts_with(mapping, "/SYSV"))
        return MEMPROT_KIND_SHARED_MEMORY;
    if (equals(mapping, "/anon_hugepage"))
        return mapping->shared ? MEMPROT_KIND_SHARED_MEMORY : MEMPROT_KIND_ANONYMOUS;
    if (equals(mapping, "/secretmem"))
        return MEMPROT_KIND_SECRET;
    if (equals(mapping, "/[aio]"))
        return MEMPROT_KIND_KERNEL;
    return MEMPROT_KIND_FILE;
}

// May run in a signal handler.
enum memprot_kind memprot_mapping_kind(const struct memprot_mapping *mapping) {
    if (mapping->path == NULL || mapping->path_length == 0)
        return MEMPROT_KIND_ANONYMOUS;
    if (mapping->path[0] == '[')
        return bracketed_kind(mapping);
    if (mapping->path[0] != '/')
        return MEMPROT_KIND_KERNEL;
    if (mapping->deleted && mapping->device_major == 0) {
        enum memprot_kind kind = nameless_file_kind(mapping);
        if (kind != MEMPROT_KIND_FILE)
            return kind;
    }
    if (starts_with(mapping, "/dev/shm/"))
        return MEMPROT_KIND_SHARED_MEMORY;
    if (starts_with(mapping, "/dev/") && !starts_with(mapping, "/dev/hugepages/"))
        return MEMPROT_KIND_DEVICE;
    return MEMPROT_KIND_FILE;
}

// May run in a signal handler.
static bool is_this_file(const struct memprot_mapping *mapping, const char *name) {
    struct statx found;
    // Neither a network nor an automount is worth waiting for here.
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
    return syscall(SYS_statx, AT_FDCWD, name, flags, STATX_INO, &found) == 0 && found.stx_ino == mapping->inode &&
           found.stx_dev_major == mapping->device_major && found.stx_dev_minor == mapping->device_minor;
}

// May run in a signal handler.
void memprot_mapping_name(struct memprot_mapping *mapping, const char *name, size_t length, bool live) {
    static const char suffix[] = " (deleted)";
    const size_t suffix_length = sizeof suffix - 1;
    mapping->path = length == 0 ? NULL : name;
    mapping->path_length = (uint32_t)length;
    mapping->deleted = false;
    if (length > suffix_length && name[0] == '/' && memcmp(name + length - suffix_length, suffix, suffix_length) == 0) {
        int saved = errno;
        mapping->deleted = true;
        mapping->path_length -= (uint32_t)suffix_length;
        if (live && memprot_mapping_kind(mapping) == MEMPROT_KIND_FILE && is_this_file(mapping, name)) {
            mapping->deleted = false;
            mapping->path_length = (uint32_t)length;
        }
        errno = saved;
    }
    mapping->kind = (uint8_t)memprot_mapping_kind(mapping);
}
