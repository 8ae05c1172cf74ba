// A change of protection on memory that may be anybody's, and what it takes to put it back.
//
// A protection remembers each mapping it found, so that it never touches another that has come in its place. While it
// lasts, recovery is armed on those of its pages that hold nothing but raw data: on those of a Region by the overlay
// that the Region has, on others by one that the protections of that memory share. Faults on its other pages are
// reported, and the process dies of them.
//
// One mutex guards the protections in effect and the sharing of overlays. Handlers never take it.
#pragma once

#include "armed.h"

/// A run of pages of one mapping, as it was found.
struct memprot_piece {
    uint64_t start, stop;
    struct memprot_mapping was;
    struct memprot_overlay *overlay; // who answers for the pages, or NULL
};

struct memprot_protection {
    uint64_t start, stop; // whole pages
    uint64_t hole;        // the first address found unmapped; stop when there is none. There are no pieces behind it.
    size_t count, capacity;
    struct memprot_piece *pieces; // in ascending order; &only, or of the heap
    struct memprot_piece only;
    struct memprot_protection *newer, *older; // those of scopes
    bool in_scope;
};

/// Why memory could not be put back as it was.
struct memprot_loss {
    enum { MEMPROT_LOSS_NONE, MEMPROT_LOSS_HOLE, MEMPROT_LOSS_CHANGED, MEMPROT_LOSS_REFUSED } kind;
    uint64_t start, stop; // the first such run
    uint8_t prot;         // what it was to become
    int error;            // refused: the errno
};

/// Looks at [start, stop), arms what @p arming says and protects every page; with @p in_scope as the newest of the
/// scopes. Memory and buffer tables stay while the protection lasts. A hole is told as the kernel tells it: see `hole`.
/// @return 0; 1 with errno set as mprotect(2) left it: pages before the one refused may have changed, and the
/// protection has to be undone or released; -1 with errno set and nothing to release: there was no looking.
int memprot_protection_begin(struct memprot_protection *ret, uint64_t start, uint64_t stop,
                             const struct memprot_arming *arming, unsigned long prot, bool in_scope);

/// Disarms what nobody else uses; the memory stays as it is.
void memprot_protection_deinit(struct memprot_protection *protection);

/// Gives every page that is still there the protection it had. Where a scope that began later still protects it, that
/// scope gives it back when it ends.
void memprot_protection_put_back(struct memprot_protection *protection, struct memprot_loss *ret);

/// Whether every page permits again what it permitted when the protection began, and no scope is at work on any of
/// them; pages that are gone count as such.
bool memprot_protection_is_settled(const struct memprot_protection *protection);

/// Whether the memory may be freed while it stays protected so: what it permitted it still permits, or it is a
/// Region's, which is never used again for anything else.
bool memprot_protection_takes_nothing(const struct memprot_protection *protection, unsigned long prot);
