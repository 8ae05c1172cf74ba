// The calling thread's rights to the pages of a protection key (pkeys(7)): a register of the CPU, not the kernel's.
#pragma once

#include <stdbool.h>

enum {
    MEMPROT_KEYS = 16,
    MEMPROT_NO_KEY = -1,
    MEMPROT_KEY_DISABLE_ACCESS = 1,
    MEMPROT_KEY_DISABLE_WRITE = 2,
};

/// @return whether this CPU has such a register and the kernel lets programs use it; without it the instructions
/// that read and write it kill. May run in a signal handler.
int memprot_has_key_rights(void);

/// The register itself, two bits for each key: 0, all rights, where there is none, and writing it changes nothing. May
/// run in a signal handler.
unsigned memprot_key_rights_read(void);
void memprot_key_rights_write(unsigned rights);

/// Whether @p rights, as the register holds them, let a thread read, or write, memory under @p key.
/// May run in a signal handler.
static inline bool memprot_key_rights_permit(unsigned rights, int key, bool write) {
    // May run in a signal handler.
    unsigned forbidding = write ? MEMPROT_KEY_DISABLE_ACCESS | MEMPROT_KEY_DISABLE_WRITE : MEMPROT_KEY_DISABLE_ACCESS;
    return !(rights >> 2 * key & forbidding);
}

/// @return the rights that are disabled, or -1 with errno set: EINVAL for a key that no CPU has, ENOSYS where there
/// are no keys. May run in a signal handler.
int memprot_pkey_get(unsigned long key);

/// @param[in] rights those to disable, the others become enabled.
/// @return 0, or -1 with errno as above; EINVAL also for unknown rights. May run in a signal handler.
int memprot_pkey_set(unsigned long key, unsigned long rights);
