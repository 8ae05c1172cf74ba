#include "protection.h"

#include "calls.h"
#include "overlay_hold.h"
#include "own_maps.h"
#include "page.h"
#include "ranges.h"
#include "record.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { DATA = PROT_READ | PROT_WRITE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct memprot_protection *newest; // of the scopes in effect

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void give_lock(void) { pthread_mutex_unlock(&lock); }
static void watch_forks(void) { pthread_atfork(take_lock, give_lock, give_lock); }

static void enter(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    take_lock();
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static size_t page_of(const struct memprot_overlay *overlay, uint64_t address) {
    return (address - overlay->start) / memprot_page_size();
}

// ---- the pieces

static struct memprot_piece *add_piece(struct memprot_protection *protection, size_t at) {
    if (protection->count == protection->capacity) {
        size_t capacity = protection->capacity * 4;
        bool inside = protection->pieces == &protection->only;
        struct memprot_piece *pieces = realloc(inside ? NULL : protection->pieces, capacity * sizeof *pieces);
        if (!pieces)
            return NULL;
        if (inside)
            *pieces = protection->only;
        protection->pieces = pieces;
        protection->capacity = capacity;
    }
    struct memprot_piece *piece = &protection->pieces[at];
    memmove(piece + 1, piece, (protection->count - at) * sizeof *piece);
    protection->count++;
    return piece;
}

// Makes @p address a border between pieces. An overlay is held once for each of its pieces.
static int split_at(struct memprot_protection *protection, uint64_t address) {
    for (size_t i = 0; i < protection->count; i++) {
        if (address <= protection->pieces[i].start || address >= protection->pieces[i].stop)
            continue;
        if (!add_piece(protection, i))
            return -1;
        struct memprot_piece *low = &protection->pieces[i], *high = low + 1;
        *low = *high;
        low->stop = high->start = address;
        if (low->overlay && low->overlay->holders > 0)
            low->overlay->holders++;
        return 0;
    }
    return 0;
}

// Without a descriptor, or /proc: what the overlay was told last, and nothing to compare with later.
static int by_overlay(const struct memprot_overlay *overlay, uint64_t start, struct memprot_mapping *ret) {
    size_t first = page_of(overlay, start), page = first;
    while (page < overlay->pages && overlay->prot[page] == overlay->prot[first])
        page++;
    *ret = (struct memprot_mapping){.stop = overlay->start + page * memprot_page_size(), .prot = overlay->prot[first]};
    return 1;
}

// ---- looking

static int add(struct memprot_protection *protection, uint64_t start, uint64_t stop,
               const struct memprot_mapping *mapping, struct memprot_overlay *overlay) {
    struct memprot_piece *piece = add_piece(protection, protection->count);
    if (!piece) {
        memprot_armed_let_go(overlay);
        return -1;
    }
    *piece = (struct memprot_piece){start, stop, *mapping, overlay};
    return 0;
}

// Pages that nobody answers for yet.
static int add_new(struct memprot_protection *protection, uint64_t start, uint64_t stop,
                   const struct memprot_mapping *mapping, const struct memprot_arming *arming) {
    for (uint64_t end; start < stop; start = end) {
        end = stop;
        bool raw = start >= arming->start && start < arming->stop;
        if (raw)
            end = least(end, arming->stop);
        else if (start < arming->start)
            end = least(end, arming->start);
        struct memprot_overlay *overlay =
            memprot_armed_create(start, end, mapping, arming, raw ? MEMPROT_PAGE_REAL : MEMPROT_PAGE_FOREIGN);
        if (add(protection, start, end, mapping, overlay) < 0)
            return -1;
    }
    return 0;
}

// Adds the pieces of [start, stop), which has one overlay or none; what is found behind a hole is left out.
static int look_at(struct memprot_protection *protection, uint64_t start, uint64_t stop,
                   struct memprot_overlay *overlay, const struct memprot_arming *arming) {
    for (uint64_t end; start < stop; start = end) {
        struct memprot_mapping mapping;
        int found = memprot_own_maps_next(start, &mapping);
        if (found < 0 && overlay && atomic_load(&overlay->state[page_of(overlay, start)]) != MEMPROT_PAGE_FOREIGN)
            found = by_overlay(overlay, start, &mapping);
        if (found < 0)
            return -1;
        if (found == 0 || mapping.start > start) {
            protection->hole = start;
            return 0;
        }
        end = least(stop, mapping.stop);
        if (overlay && overlay->holders > 0)
            overlay->holders++;
        int failed = overlay ? add(protection, start, end, &mapping, overlay)
                             : add_new(protection, start, end, &mapping, arming);
        if (failed)
            return -1;
    }
    return 0;
}

static int look_from(struct memprot_protection *protection, uint64_t at, uint64_t *end,
                     const struct memprot_arming *arming) {
    uintptr_t from = 0, to = 0;
    struct memprot_overlay *overlay = memprot_ranges_next(at, &from, &to);
    if (!overlay || from > at) {
        *end = overlay ? least(protection->stop, from) : protection->stop;
        return look_at(protection, at, *end, NULL, arming);
    }
    *end = least(protection->stop, to);
    size_t first = page_of(overlay, at), count = page_of(overlay, *end) - first;
    if (memprot_armed_hold(overlay, first, count) < 0)
        return -1;
    int failed = look_at(protection, at, *end, overlay, arming);
    memprot_overlay_unhold(overlay, first, count);
    return failed;
}

static void leave_scopes(struct memprot_protection *protection) {
    if (!protection->in_scope)
        return;
    *(protection->newer ? &protection->newer->older : &newest) = protection->older;
    if (protection->older)
        protection->older->newer = protection->newer;
    protection->in_scope = false;
}

void memprot_protection_deinit(struct memprot_protection *protection) {
    enter();
    leave_scopes(protection);
    for (size_t i = 0; i < protection->count; i++)
        memprot_armed_let_go(protection->pieces[i].overlay);
    give_lock();
    if (protection->pieces != &protection->only)
        free(protection->pieces);
    protection->count = 0;
}

// ---- changing

static int change(struct memprot_overlay *overlay, uint64_t start, uint64_t stop, unsigned long prot) {
    if (!overlay)
        return memprot_mprotect(start, stop - start, prot);
    size_t first = page_of(overlay, start);
    return memprot_armed_change(overlay, first, page_of(overlay, stop) - first, prot);
}

// Under the lock.
static int apply(struct memprot_protection *protection, unsigned long prot, bool in_scope) {
    if (in_scope) {
        protection->older = newest;
        protection->newer = NULL;
        if (newest)
            newest->newer = protection;
        newest = protection;
        protection->in_scope = true;
    }
    int failed = 0;
    for (size_t i = 0; i < protection->count && !failed; i++) {
        const struct memprot_piece *piece = &protection->pieces[i];
        failed = change(piece->overlay, piece->start, piece->stop, prot);
    }
    if (!failed && protection->hole < protection->stop)
        failed = memprot_mprotect(protection->hole, protection->stop - protection->hole, prot);
    return failed;
}

// One hold of the lock: what another thread did between the look and the change would be put back as if it had always
// been so.
int memprot_protection_begin(struct memprot_protection *ret, uint64_t start, uint64_t stop,
                             const struct memprot_arming *arming, unsigned long prot, bool in_scope) {
    *ret = (struct memprot_protection){.start = start, .stop = stop, .hole = stop, .capacity = 1};
    ret->pieces = &ret->only;
    int failed = 0, refused = 0;
    enter();
    for (uint64_t at = start, end; at < ret->hole && !failed; at = end)
        failed = look_from(ret, at, &end, arming);
    if (!failed)
        refused = apply(ret, prot, in_scope);
    give_lock();
    if (failed) {
        int error = errno;
        memprot_protection_deinit(ret);
        errno = error;
    }
    return failed ? -1 : refused ? 1 : 0;
}

// ---- putting back

static bool is_same(const struct memprot_mapping *was, const struct memprot_mapping *now) {
    return was->shared == now->shared && was->inode == now->inode && was->device_major == now->device_major &&
           was->device_minor == now->device_minor &&
           (was->inode == 0 || was->offset - was->start == now->offset - now->start);
}

static void note(struct memprot_loss *loss, const struct memprot_piece *piece, int kind, uint64_t start,
                 uint64_t stop) {
    if (loss->kind != MEMPROT_LOSS_NONE) {
        if (loss->kind == (unsigned)kind && loss->stop == start)
            loss->stop = stop;
        return;
    }
    *loss = (struct memprot_loss){.kind = kind, .start = start, .stop = stop, .prot = piece->was.prot, .error = errno};
}

// What is mapped at @p at, up to @p stop: 1 what was there when the piece was made, 0 something else, -1 nothing.
static int look(const struct memprot_piece *piece, uint64_t at, uint64_t *stop, struct memprot_mapping *now) {
    bool is_known = piece->was.start != 0;
    if (is_known && memprot_own_maps_glance(at, now) == 1 && now->start <= at && is_same(&piece->was, now)) {
        *stop = least(piece->stop, now->stop);
        return 1;
    }
    int found = is_known ? memprot_own_maps_next(at, now) : -1;
    if (found < 0) {
        now->prot = PROT_READ | PROT_WRITE | PROT_EXEC;
        return 1; // no descriptor is left to ask with: the memory was held, so it is what it was
    }
    if (found == 0 || now->start > at) {
        *stop = found == 0 ? piece->stop : least(piece->stop, now->start);
        return -1;
    }
    *stop = least(piece->stop, now->stop);
    return is_same(&piece->was, now);
}

static void put_back_piece(const struct memprot_piece *piece, struct memprot_loss *loss) {
    struct memprot_mapping now;
    struct memprot_overlay *overlay = piece->overlay;
    for (uint64_t at = piece->start, stop = piece->stop; at < piece->stop; at = stop, stop = piece->stop) {
        int same = look(piece, at, &stop, &now);
        if (same == 0 && overlay && overlay->backing != MEMPROT_BACKING_PRIVATE) {
            // It may be a decoy that hides the memory.
            size_t first = page_of(overlay, at);
            memprot_record_close_pages(overlay, first, page_of(overlay, stop) - first);
            same = look(piece, at, &stop, &now);
        }
        if (same == 1) {
            if (change(overlay, at, stop, piece->was.prot) < 0)
                note(loss, piece, MEMPROT_LOSS_REFUSED, at, stop);
            continue;
        }
        note(loss, piece, same < 0 ? MEMPROT_LOSS_HOLE : MEMPROT_LOSS_CHANGED, at, stop);
        if (overlay && overlay->holders > 0) {
            size_t first = page_of(overlay, at);
            memprot_overlay_abandon(overlay, first, page_of(overlay, stop) - first);
        }
    }
}

// Leaves what a later scope protects to that scope: it has seen what this one did, and must give back what this one
// found.
static int hand_over(struct memprot_protection *from, struct memprot_protection *to) {
    for (size_t i = 0; i < to->count; i++) {
        if (split_at(from, to->pieces[i].start) < 0 || split_at(from, to->pieces[i].stop) < 0)
            return -1;
    }
    for (size_t i = 0; i < from->count; i++) {
        if (split_at(to, from->pieces[i].start) < 0 || split_at(to, from->pieces[i].stop) < 0)
            return -1;
    }
    for (size_t i = 0; i < to->count; i++) {
        for (size_t j = 0; j < from->count; j++) {
            if (from->pieces[j].start != to->pieces[i].start)
                continue;
            to->pieces[i].was.prot = from->pieces[j].was.prot;
            memprot_armed_let_go(from->pieces[j].overlay);
            memmove(&from->pieces[j], &from->pieces[j + 1], (from->count - j - 1) * sizeof from->pieces[j]);
            from->count--;
            break;
        }
    }
    return 0;
}

void memprot_protection_put_back(struct memprot_protection *protection, struct memprot_loss *ret) {
    *ret = (struct memprot_loss){.kind = MEMPROT_LOSS_NONE};
    enter();
    struct memprot_protection *later = protection->in_scope ? protection->newer : NULL;
    for (; later; later = later->newer) {
        if (later->start < protection->stop && protection->start < later->stop && hand_over(protection, later) < 0)
            note(ret, &protection->only, MEMPROT_LOSS_REFUSED, protection->start, protection->stop);
    }
    leave_scopes(protection);
    for (size_t i = 0; i < protection->count; i++)
        put_back_piece(&protection->pieces[i], ret);
    give_lock();
}

bool memprot_protection_is_settled(const struct memprot_protection *protection) {
    bool settled = true;
    enter();
    for (struct memprot_protection *scope = newest; scope; scope = scope->older)
        settled &= scope->start >= protection->stop || protection->start >= scope->stop;
    for (size_t i = 0; i < protection->count && settled; i++) {
        const struct memprot_piece *piece = &protection->pieces[i];
        struct memprot_mapping now;
        uint64_t stop = piece->stop;
        size_t first = piece->overlay ? page_of(piece->overlay, piece->start) : 0;
        size_t count = piece->overlay ? page_of(piece->overlay, piece->stop) - first : 0;
        if (piece->overlay && memprot_armed_hold(piece->overlay, first, count) < 0) {
            settled = false; // it cannot even be closed
            break;
        }
        for (uint64_t at = piece->start; at < piece->stop && settled; at = stop, stop = piece->stop)
            settled = look(piece, at, &stop, &now) != 1 || (piece->was.prot & DATA & ~now.prot) == 0;
        if (piece->overlay)
            memprot_overlay_unhold(piece->overlay, first, count);
    }
    give_lock();
    return settled;
}

bool memprot_protection_takes_nothing(const struct memprot_protection *protection, unsigned long prot) {
    for (size_t i = 0; i < protection->count; i++) {
        const struct memprot_piece *piece = &protection->pieces[i];
        bool of_region = piece->overlay && piece->overlay->holders == 0;
        if (!of_region && (piece->was.prot & DATA & ~prot))
            return false;
    }
    return true;
}
