// PROCMAP_QUERY: the kernel's answer about one address, without any text.
#include "query.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

// linux/fs.h has had these since Linux 6.11; most build machines are older than the kernels they build for.
struct procmap_query_argument {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
enum { VMA_READABLE = 1, VMA_WRITABLE = 2, VMA_EXECUTABLE = 4, VMA_SHARED = 8 };
#define PROCMAP_QUERY_REQUEST _IOWR('f', 17, struct procmap_query_argument)

enum { COVERING_OR_NEXT = 0x10 };

// May run in a signal handler.
static int ask(int fd, uint64_t address, uint64_t flags, struct memprot_mapping *ret, char *path, size_t capacity) {
    struct procmap_query_argument query = {
        .size = sizeof query,
        .query_flags = flags,
        .query_addr = address,
        .vma_name_size = capacity > MEMPROT_NAME_SIZE ? MEMPROT_NAME_SIZE : (uint32_t)capacity,
        .vma_name_addr = (uintptr_t)path,
    };
    if (ioctl(fd, PROCMAP_QUERY_REQUEST, &query) < 0)
        return errno == ENOENT ? 0 : -1;
    *ret = (struct memprot_mapping){
        .start = query.vma_start,
        .stop = query.vma_end,
        .offset = query.vma_offset,
        .inode = query.inode,
        .device_major = query.dev_major,
        .device_minor = query.dev_minor,
        .prot = (uint8_t)((query.vma_flags & VMA_READABLE ? PROT_READ : 0) |
                          (query.vma_flags & VMA_WRITABLE ? PROT_WRITE : 0) |
                          (query.vma_flags & VMA_EXECUTABLE ? PROT_EXEC : 0)),
        .shared = query.vma_flags & VMA_SHARED,
    };
    if (capacity > 0)
        memprot_mapping_name(ret, path, query.vma_name_size == 0 ? 0 : query.vma_name_size - 1, true);
    return 1;
}

// May run in a signal handler.
int memprot_maps_query(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity) {
    return ask(fd, address, 0, ret, path, capacity);
}

// May run in a signal handler.
int memprot_maps_query_next(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity) {
    return ask(fd, address, COVERING_OR_NEXT, ret, path, capacity);
}
