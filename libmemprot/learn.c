#include "learn.h"

#include "own_maps.h"
#include "page.h"

#include <sys/mman.h>

// What the kernel tells of a protection; other bits that a mapping was made with are not its to contradict.
enum { TOLD = PROT_READ | PROT_WRITE | PROT_EXEC };

// Whether this is all that was remembered of the pages already. May run in a signal handler.
static bool is_known(const struct memprot_overlay *overlay, size_t page, size_t stop,
                     const struct memprot_mapping *found) {
    size_t size = memprot_page_size();
    bool known = found->start <= overlay->start + page * size && found->stop >= overlay->start + stop * size;
    for (; page < stop && known; page++)
        known = (overlay->prot[page] & TOLD) == found->prot;
    return known;
}

// May run in a signal handler.
bool memprot_learn_pages(struct memprot_overlay *overlay, size_t first, size_t count) {
    size_t size = memprot_page_size();
    for (size_t page = first, stop = first + count, next; page < stop; page = next) {
        uintptr_t address = overlay->start + page * size;
        struct memprot_mapping found;
        if (memprot_own_maps_glance(address, &found) == 1 && is_known(overlay, page, stop, &found))
            return true;
        int answer = memprot_own_maps_ask(address, &found);
        if (answer < 0)
            return true;
        if (answer == 0 || found.start > address)
            return false;
        next = (found.stop - overlay->start) / size;
        for (next = next < stop ? next : stop; page < next; page++) {
            if ((overlay->prot[page] & TOLD) != found.prot)
                overlay->prot[page] = found.prot;
        }
    }
    return true;
}

// May run in a signal handler.
bool memprot_learn_now(const struct memprot_overlay *overlay, size_t page, uint8_t *ret) {
    uintptr_t address = overlay->start + page * memprot_page_size();
    struct memprot_mapping found;
    if (memprot_own_maps_ask(address, &found) != 1 || found.start > address)
        return false;
    *ret = found.prot;
    return true;
}
