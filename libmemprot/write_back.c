#include "write_back.h"

#include "calls.h"
#include "key_rights.h"
#include "page_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Opened when first needed, replaced after a fork, since the descriptor speaks of the memory of whoever
// opened it.
static atomic_int own_memory = -1;

// May run in a signal handler.
static int write_through(uintptr_t address, const char *from, size_t length) {
    int fd = atomic_load(&own_memory);
    if (fd < 0) {
        fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return -1;
        int none = -1;
        if (!atomic_compare_exchange_strong(&own_memory, &none, fd)) {
            close(fd);
            fd = none;
        }
    }
    while (length > 0) {
        ssize_t written = pwrite(fd, from, length, (off_t)address);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -1;
        address += (size_t)written;
        from += written;
        length -= (size_t)written;
    }
    return 0;
}

// For kernels that let no process write its read-only memory through /proc: new pages with the content take
// the place of the old ones at once. It costs a mapping that will not merge with its neighbours. May run in a
// signal handler.
static int replace_pages(uintptr_t start, const char *from, size_t length, uint8_t prot, int key) {
    char *fresh = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return -1;
    memcpy(fresh, from, length);
    if (memprot_protect_under_key((uintptr_t)fresh, length, prot, key) == 0 &&
        mremap(fresh, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != MAP_FAILED)
        return 0;
    munmap(fresh, length);
    return -1;
}

// For a process that may not have another mapping either: the protection is lifted, and a blocked write of another
// thread may slip in. May run in a signal handler.
static int rewrite_in_place(uintptr_t start, const char *from, size_t length, uint8_t prot, int key) {
    if (memprot_mprotect(start, length, PROT_READ | PROT_WRITE) < 0)
        return -1;
    unsigned rights = memprot_key_rights_read();
    memprot_key_rights_write(0);
    memcpy((void *)start, from, length);
    memprot_key_rights_write(rights);
    return memprot_protect_under_key(start, length, prot, key);
}

// May run in a signal handler.
int memprot_write_back(uintptr_t start, const char *from, size_t length, uint8_t prot, int key) {
    if (write_through(start, from, length) == 0)
        return key > 0 ? memprot_protect_under_key(start, length, prot, key) : 0;
    if (replace_pages(start, from, length, prot, key) == 0)
        return 0;
    return rewrite_in_place(start, from, length, prot, key);
}

void memprot_write_back_close_descriptor(void) {
    int fd = atomic_exchange(&own_memory, -1);
    if (fd >= 0)
        close(fd);
}
