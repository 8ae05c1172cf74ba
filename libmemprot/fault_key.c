#include "fault_key.h"

#include "context.h"
#include "key_rights.h"
#include "overlay_close.h"
#include "page.h"
#include "page_key.h"

// May run in a signal handler.
int memprot_fault_key(const siginfo_t *info) {
    return info->si_signo == SIGSEGV && info->si_code == SEGV_PKUERR ? (int)info->si_pkey : MEMPROT_NO_KEY;
}

// May run in a signal handler.
static size_t page_of(const siginfo_t *info, const struct memprot_overlay *overlay) {
    return ((uintptr_t)info->si_addr - overlay->start) / memprot_page_size();
}

// May run in a signal handler.
int memprot_fault_true_key(const siginfo_t *info, const struct memprot_overlay *overlay) {
    int key = memprot_fault_key(info);
    if (!overlay || !memprot_is_own_key(key))
        return key;
    int other = memprot_overlay_key(overlay, page_of(info, overlay));
    return other == 0 ? MEMPROT_NO_KEY : other;
}

// Pages without keys never stand in the way of what is permitted. May run in a signal handler.
bool memprot_fault_is_permitted(const siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
    enum memprot_access access = memprot_context_access(context, (uintptr_t)info->si_addr);
    const unsigned *rights = memprot_context_key_rights(context);
    if (!rights || access == MEMPROT_EXECUTE || info->si_signo != SIGSEGV || overlay->backing == MEMPROT_BACKING_GUARD)
        return false;
    size_t page = page_of(info, overlay);
    bool write = access == MEMPROT_WRITE;
    int key = memprot_fault_key(info);
    // The key that the kernel tells is the page's by now, which need not be the one that the processor met.
    if (key != MEMPROT_NO_KEY && !memprot_is_own_key(key) && memprot_key_rights_permit(*rights, key, write))
        return true;
    bool hidden = memprot_is_own_key(key);
    if (key == MEMPROT_NO_KEY || hidden)
        key = memprot_overlay_key(overlay, page);
    if ((key == 0 && !hidden) || !memprot_key_rights_permit(*rights, key, write) ||
        !memprot_overlay_permits(overlay, page, write))
        return false;
    (void)memprot_overlay_close(overlay, page, 1); // what fails is tried again when the access faults again
    return true;
}

// May run in a signal handler.
void memprot_fault_grant(unsigned *rights) {
    if (rights)
        *rights = memprot_own_key_granted(*rights);
}
