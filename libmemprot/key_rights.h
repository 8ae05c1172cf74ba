// The calling thread's rights to the pages of a protection key (pkeys(7)): a register of the CPU, not the kernel's.
#pragma once

enum {
    MEMPROT_KEYS = 16,
    MEMPROT_KEY_DISABLE_ACCESS = 1,
    MEMPROT_KEY_DISABLE_WRITE = 2,
};

/// @return whether this CPU has such a register and the kernel lets programs use it; without it the instructions
/// that read and write it kill. May run in a signal handler.
int memprot_has_key_rights(void);

/// @return the rights that are disabled, or -1 with errno set: EINVAL for a key that no CPU has, ENOSYS where there
/// are no keys. May run in a signal handler.
int memprot_pkey_get(unsigned long key);

/// @param[in] rights those to disable, the others become enabled.
/// @return 0, or -1 with errno as above; EINVAL also for unknown rights. May run in a signal handler.
int memprot_pkey_set(unsigned long key, unsigned long rights);
