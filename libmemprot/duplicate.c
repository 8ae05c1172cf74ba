#include "duplicate.h"

#include "access.h"
#include "calls.h"
#include "page_key.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

// An old length of 0 leaves a shared mapping where it is and makes a second one of the same pages. May run in a signal
// handler.
static int duplicate(void *from, size_t length, void *to) {
    return mremap(from, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? -1 : 0;
}

// May run in a signal handler.
int memprot_duplicate_replace(uintptr_t start, char *aside, size_t length, uint8_t prot, int key, bool zero,
                              char *opened) {
    // Whoever looked for the pages' key may have opened them for reading; what is copied has to be readable for it.
    uint8_t meanwhile = zero ? prot : prot | PROT_READ;
    if (duplicate((void *)start, length, aside) < 0 || memprot_mprotect((uintptr_t)aside, length, meanwhile) < 0)
        return -1;
    char *decoy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (decoy == MAP_FAILED)
        return -1;
    int failed = 0;
    // From the duplicate, whose protection nobody else changes.
    if (!zero && memprot_access_copy(decoy, aside, length) > 0) {
        errno = ENODATA; // the file has become shorter
        failed = -1;
    }
    if (!failed && meanwhile != prot)
        failed = memprot_mprotect((uintptr_t)aside, length, prot);
    if (!failed && opened)
        memcpy(opened, decoy, length);
    if (!failed && ((prot & PROT_EXEC) || key > 0))
        failed = memprot_protect_under_key((uintptr_t)decoy, length, PROT_READ | PROT_WRITE | (prot & PROT_EXEC), key);
    if (!failed && mremap(decoy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) != MAP_FAILED)
        return 0;
    int error = errno;
    munmap(decoy, length);
    errno = error;
    return -1;
}

// May run in a signal handler.
int memprot_duplicate_restore(uintptr_t start, char *aside, size_t length) {
    if (duplicate(aside, length, (void *)start) < 0)
        return -1;
    // Back to what lies around it: of duplicates that stay, each is a mapping, and those have a limit. When it fails,
    // this one stays. Never a hole: another thread's mapping could come to lie there.
    mmap(aside, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return 0;
}
