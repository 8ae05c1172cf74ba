#include "fault_call.h"

#include "call_site.h"
#include "learn.h"
#include "page.h"

#include <sys/mman.h>

// May run in a signal handler.
bool memprot_fault_recover_call(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                                const struct memprot_ruling *ruling) {
    uintptr_t address = (uintptr_t)info->si_addr;
    struct memprot_let_through nothing = {.overlay = NULL};
    struct memprot_call_site site;
    uint8_t prot;
    if (memprot_learn_now(overlay, (address - overlay->start) / memprot_page_size(), &prot) && (prot & PROT_EXEC))
        return memprot_fault_try_again(context, address); // it has become code meanwhile
    if (!memprot_call_site_find(context, &site) || !memprot_call_site_may_return() ||
        !memprot_fault_tell(info, context, overlay, ruling, &nothing, NULL))
        return false;
    memprot_call_site_return(context, &site);
    return true;
}
