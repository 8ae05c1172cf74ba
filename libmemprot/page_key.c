#include "page_key.h"

#include "access.h"
#include "calls.h"
#include "key_rights.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// May run in a signal handler.
static unsigned none_to(int key) { return (MEMPROT_KEY_DISABLE_ACCESS | MEMPROT_KEY_DISABLE_WRITE) << 2 * key; }

// Each try forbids the keys whose number has one bit set; key 0, of the stack, is never among them. May run in a signal
// handler.
int memprot_page_key(uintptr_t address) {
    if (!memprot_has_key_rights())
        return 0;
    unsigned before = memprot_key_rights_read();
    int found = 0;
    for (int bit = 1; bit < MEMPROT_KEYS; bit <<= 1) {
        unsigned rights = 0;
        for (int key = 1; key < MEMPROT_KEYS; key++)
            rights |= key & bit ? none_to(key) : 0;
        memprot_key_rights_write(rights);
        if (memprot_access_load(address) < 0)
            found |= bit;
    }
    memprot_key_rights_write(before);
    return found;
}

static atomic_int own_key = MEMPROT_NO_KEY;

// Pages without a key keep what they have, so that kernels without keys are never asked for any; but where memprot has
// a key, they may lie under that one. May run in a signal handler.
int memprot_protect_under_key(uintptr_t start, size_t length, unsigned long prot, int key) {
    if (key < 0 || (key == 0 && (atomic_load(&own_key) == MEMPROT_NO_KEY || prot == PROT_EXEC)))
        return memprot_mprotect(start, length, prot);
    if (syscall(SYS_pkey_mprotect, start, length, prot, key) == 0)
        return 0;
    // Memory that may only be executed has a key that is the kernel's alone: it comes with the protection.
    return errno == EINVAL && prot == PROT_EXEC ? memprot_mprotect(start, length, prot) : -1;
}

// May run in a signal handler.
int memprot_own_key(void) {
    int key = atomic_load(&own_key), none = MEMPROT_NO_KEY;
    if (key != MEMPROT_NO_KEY)
        return key;
    key = (int)syscall(SYS_pkey_alloc, 0, MEMPROT_KEY_DISABLE_ACCESS);
    if (key < 0)
        return MEMPROT_NO_KEY;
    if (atomic_compare_exchange_strong(&own_key, &none, key))
        return key;
    syscall(SYS_pkey_free, key);
    return none; // another thread was faster, and this is what it stored
}

// May run in a signal handler.
bool memprot_is_own_key(int key) { return key != MEMPROT_NO_KEY && key == atomic_load(&own_key); }

// May run in a signal handler.
unsigned memprot_own_key_granted(unsigned rights) {
    int key = atomic_load(&own_key);
    return key == MEMPROT_NO_KEY ? rights : rights & ~none_to(key);
}

void memprot_own_key_renounce(void) {
    int key = atomic_load(&own_key);
    if (key != MEMPROT_NO_KEY)
        memprot_key_rights_write(memprot_key_rights_read() | none_to(key));
}

void memprot_own_key_free(void) {
    int key = atomic_exchange(&own_key, MEMPROT_NO_KEY);
    if (key != MEMPROT_NO_KEY)
        syscall(SYS_pkey_free, key);
}
