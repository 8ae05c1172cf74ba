// Zeros over pages that the kernel cannot give: the file beneath has become shorter, its file system is full, or the
// memory is broken.
//
// The mapping itself waits aside meanwhile with all it has (file, protection, private copies), and is moved back as it
// was; what was written to the zeros is gone then. The zeros are a mapping of /dev/zero at an offset that no other one
// has: should the program unmap them, or map something else in their place, that is known and left alone.
//
// One lock, which handlers take as well, stands around all of it. Who holds it touches nothing that faults, except by
// the accessors.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memprot_hole {
    _Atomic uintptr_t start; // 0: free
    uintptr_t stop;
    char *aside;               // where the mapping waits; NULL when it is back
    uint64_t offset;           // of the zeros, in /dev/zero
    uint8_t prot;              // that the zeros were given
    struct memprot_hole *next; // of the same record
};

/// False when the thread holds it already, in a handler that has interrupted itself. May run in a signal handler.
bool memprot_hole_lock(void);
/// May run in a signal handler.
void memprot_hole_unlock(void);

/// Lays zeros over whole pages of one mapping. Under the lock.
/// @param copied where pages may have bytes that can be read and not written: these bytes, and zeros for the others.
/// @return NULL with errno set, and the pages as they were. May run in a signal handler.
struct memprot_hole *memprot_hole_open(uintptr_t start, uintptr_t stop, uint8_t prot, bool copied);

/// Whether zeros lie over an address at this moment. Under the lock. May run in a signal handler.
bool memprot_hole_covers(uintptr_t address);

/// Puts the mappings of a list of holes back where the zeros still are, and frees the holes. May run in a signal
/// handler.
void memprot_hole_close(struct memprot_hole *first);

/// Puts back what lies in [start, stop) of anybody's holes; they are not freed yet. May run in a signal handler.
void memprot_hole_put_back(uintptr_t start, uintptr_t stop);
