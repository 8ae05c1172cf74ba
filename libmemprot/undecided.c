#include "undecided.h"

#include "access.h"
#include "calls.h"
#include "key_rights.h"
#include "page_key.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

// May run in a signal handler.
int memprot_undecided_lay_over(uintptr_t start, char *opened, size_t length, uint8_t prot, int key, int fd,
                               off_t offset) {
    char *file = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, offset);
    if (file == MAP_FAILED)
        return -1;
    char *decoy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int failed = decoy == MAP_FAILED ? -1 : 0;
    if (!failed && memprot_access_copy(opened, file, length) > 0) {
        errno = EFAULT; // the file has become shorter
        failed = -1;
    }
    if (!failed) {
        memcpy(decoy, opened, length);
        if ((prot & PROT_EXEC) || key > 0)
            failed =
                memprot_protect_under_key((uintptr_t)decoy, length, PROT_READ | PROT_WRITE | (prot & PROT_EXEC), key);
    }
    if (!failed && mremap(decoy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) == MAP_FAILED)
        failed = -1;
    int error = errno;
    munmap(file, length);
    if (failed && decoy != MAP_FAILED)
        munmap(decoy, length);
    errno = error;
    return failed;
}

// What may be written is written, whatever else fails. May run in a signal handler.
static int merge(char *to, uintptr_t start, const char *opened, size_t length) {
    enum { STEP = 64 }; // page sizes are multiples of it
    const char *decoy = (const char *)start;
    unsigned rights = memprot_key_rights_read();
    int failed = 0;
    memprot_key_rights_write(0); // the decoy may lie under any key
    for (size_t step = 0; step < length; step += STEP) {
        if (memcmp(decoy + step, opened + step, STEP) == 0)
            continue;
        for (size_t i = step; i < step + STEP; i++) {
            if (decoy[i] != opened[i] && memprot_access_copy(to + i, decoy + i, 1) > 0)
                failed = -1;
        }
    }
    memprot_key_rights_write(rights);
    if (failed)
        errno = EFAULT;
    return failed;
}

// May run in a signal handler.
int memprot_undecided_keep(uintptr_t start, const char *opened, size_t length, int fd, off_t offset) {
    char *file = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    if (file == MAP_FAILED)
        return -1;
    // Nobody writes any more to what is being compared.
    int failed = memprot_mprotect(start, length, PROT_READ);
    if (!failed)
        failed = merge(file, start, opened, length);
    int error = errno;
    munmap(file, length);
    errno = error;
    return failed;
}

// May run in a signal handler.
int memprot_undecided_keep_aside(uintptr_t start, const char *opened, size_t length, char *aside, uint8_t prot) {
    int failed = memprot_mprotect((uintptr_t)aside, length, PROT_READ | PROT_WRITE);
    if (!failed)
        failed = memprot_mprotect(start, length, PROT_READ);
    if (!failed)
        failed = merge(aside, start, opened, length);
    int error = errno;
    if (memprot_mprotect((uintptr_t)aside, length, prot) < 0)
        return -1;
    errno = error;
    return failed;
}
