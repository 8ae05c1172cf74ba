// Reading and writing memory that may not be there: accessors whose faults are answered from an exception
// table.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// What stopped an accessor in this thread, as the handler saw it.
struct memprot_access_failure {
    uintptr_t address;
    int signal;
    int key; // the protection key that forbade it, or MEMPROT_NO_KEY
};

/// @return the byte at @p from (0 to 255), or -1 when reading it faults.
int memprot_access_load(uintptr_t from);

/// @return 0, or -1 when writing @p byte at @p to faults.
int memprot_access_store(uintptr_t to, unsigned char byte);

/// Copies up to the first byte that faults, ascending.
/// @return the bytes *not* copied; 0 when all of them were.
size_t memprot_access_copy(void *to, const void *from, size_t length);

/// Where an accessor that faulted at @p instruction goes on, or 0 when the instruction is none of ours.
/// May run in a signal handler.
uintptr_t memprot_access_fixup(uintptr_t instruction);

/// The last failure of an accessor in the calling thread; meaningful right after one has failed.
struct memprot_access_failure *memprot_access_last_failure(void);
