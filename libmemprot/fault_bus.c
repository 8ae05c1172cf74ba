#include "fault_bus.h"

#include "bus.h"
#include "context.h"
#include "page.h"

enum { WINDOW_LIMIT = 4096, REPEAT_LIMIT = 10000 };

// How often in a row the thread met zeros that were laid for another one: whatever it meets then is no lack of bytes.
static _Thread_local int repeats;

// May run in a signal handler.
void memprot_fault_add_hole(struct memprot_record *record, struct memprot_hole *hole) {
    if (hole) {
        hole->next = record->holes;
        record->holes = hole;
    }
}

// May run in a signal handler.
static bool is_foreign(const struct memprot_overlay *overlay, uintptr_t address) {
    return !overlay ||
           atomic_load(&overlay->state[(address - overlay->start) / memprot_page_size()]) == MEMPROT_PAGE_FOREIGN;
}

// The zeros that the thread's last access was given end at this page, or begin behind it. May run in a signal handler.
static bool continues_hole(const struct memprot_hole *hole, uintptr_t page, int *direction) {
    *direction = hole && page + memprot_page_size() == atomic_load(&hole->start) ? -1 : 1;
    return hole && (*direction < 0 || page == hole->stop);
}

// The page after, or before, the zeros this thread has just been given. May run in a signal handler.
static enum memprot_bus_opening continue_hole(const siginfo_t *info, const struct memprot_overlay *overlay,
                                              enum memprot_access access) {
    struct memprot_burst *burst = memprot_fault_burst();
    struct memprot_record *record = burst->record;
    enum memprot_bus_opening opening = MEMPROT_BUS_REFUSED; // another access
    int direction;
    if (!record || !memprot_record_hold(record, burst->sequence))
        return opening;
    uintptr_t page = memprot_page_floor((uintptr_t)info->si_addr);
    if (record->access == access && continues_hole(record->holes, page, &direction)) {
        size_t window = 2 * burst->window;
        burst->window = window < WINDOW_LIMIT ? window : WINDOW_LIMIT;
        struct memprot_hole *hole;
        opening = memprot_bus_open(info, access == MEMPROT_WRITE, overlay, burst->window, direction, &hole);
        memprot_fault_add_hole(record, hole);
        if (opening == MEMPROT_BUS_OPENED)
            memprot_record_count(record);
    }
    memprot_record_unhold(record);
    return opening;
}

// May run in a signal handler.
bool memprot_fault_recover_bus(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                               const struct memprot_ruling *ruling, bool others_may) {
    uintptr_t address = (uintptr_t)info->si_addr;
    struct memprot_let_through opened = {.overlay = NULL};
    struct memprot_overlay *owner = is_foreign(overlay, address) ? NULL : overlay;
    // Only a scope answers for files that the program has mapped by itself; and for a thread without one, that of
    // another thread does where nobody else may.
    if (!owner && (!memprot_scope_is_any_open() || (ruling->scope == 0 && others_may)))
        return false;
    enum memprot_access access = memprot_context_access(context, address);
    if (continue_hole(info, owner, access) == MEMPROT_BUS_OPENED)
        return true;
    enum memprot_bus_opening opening = memprot_bus_open(info, access == MEMPROT_WRITE, owner, 1, 1, &opened.hole);
    repeats = opening == MEMPROT_BUS_RETRY ? repeats + 1 : 0;
    if (opening == MEMPROT_BUS_REFUSED || repeats > REPEAT_LIMIT)
        return false;
    // Zeros that another thread was given are this one's to report as well.
    return memprot_fault_tell(info, context, owner, ruling, &opened, NULL);
}
