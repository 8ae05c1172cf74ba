// Letting a blocked access through onto bytes that do not count, and taking it back.
//
// An overlay answers for a run of pages. Opening pages lets accesses to them succeed; closing them puts
// protection and content back as they were. What lies beneath decides how:
//   private    copy the page aside, open it (zeroed first where reading is forbidden); close it, then write the
//              copy back
//   shared     a private mapping of the same file laid over the page, so that other processes never see the write
//   duplicate  the same for shared memory whose file we do not have: the mapping itself is duplicated aside, a private
//              copy laid over it, and the duplicate put back
//   guard      the guard is removed, and installed again, which discards what was written
//
// Where there are protection keys, decoys lie under a key of memprot's own, and only the threads that were blocked get
// rights to that one. Another thread that meets them faults as well. When the pages' true protection and key permit
// what it does, that is the sign to close them: what it reads and writes is never the decoy. When not, its access is
// one more that is forbidden. Without keys, or with none left, a decoy is open to every thread, and such an access goes
// unnoticed.
//
// Others change protections too, by calls of their own. Whoever opens a page asks the kernel first what protection it
// has, and that is what it gets back.
//
// Where an access may really happen, its pages are opened as they are. Where that is decided later, what was written is
// found by comparing the pages with what they were when they were opened.
//
// Page states are written by compare-and-swap (acquire, release) in handlers of any thread: real -> busy ->
// open by the thread that opens, open -> busy -> real by the one that closes. Nobody else touches a page that
// is busy.
#pragma once

#include "policy.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum memprot_backing {
    MEMPROT_BACKING_PRIVATE,
    MEMPROT_BACKING_SHARED,
    MEMPROT_BACKING_DUPLICATE,
    MEMPROT_BACKING_GUARD
};

enum memprot_page_state {
    MEMPROT_PAGE_FOREIGN, // not this overlay's to open: data between guards, memory that may hold objects
    MEMPROT_PAGE_REAL,
    MEMPROT_PAGE_BUSY,
    MEMPROT_PAGE_OPEN,
};

enum memprot_opening {
    MEMPROT_OPENED,          // the pages asked for are open now, by this call
    MEMPROT_RETRY,           // another thread is at work on the page, or has just opened or closed it
    MEMPROT_ALLOWED,         // the page's protection permits this access: nothing to open
    MEMPROT_OPEN_FOR_OTHERS, // the page is open, but only for threads that have rights to memprot's own key
    MEMPROT_WITHOUT_BYTES,   // the kernel cannot give the page, so there is nothing to copy
    MEMPROT_REFUSED,         // not a page of this overlay, or the kernel said no: errno tells
};

/// What becomes of what is written to open pages.
enum memprot_fate {
    MEMPROT_FATE_DISCARDED, // and what may not be read reads as zeros
    MEMPROT_FATE_KEPT,
    MEMPROT_FATE_UNDECIDED, // either, as memprot_overlay_keep is called or not
};

/// May run in a signal handler.
static inline enum memprot_fate memprot_overlay_fate(enum memprot_policy policy) {
    if (policy == MEMPROT_POLICY_LOG)
        return MEMPROT_FATE_KEPT;
    return policy == MEMPROT_POLICY_ASK ? MEMPROT_FATE_UNDECIDED : MEMPROT_FATE_DISCARDED;
}

/// What was forbidden, and by what.
struct memprot_blocked {
    bool write;      // else a read
    int key;         // to which the thread lacks the right; MEMPROT_NO_KEY: the protection forbids it
    bool unreadable; // the thread may not even read under that key
    bool alone;      // the thread can be given rights that others have not
    enum memprot_fate fate;
};

enum { MEMPROT_OVERLAY_FEW = 32 };

struct memprot_overlay {
    uintptr_t start;
    size_t pages;
    enum memprot_backing backing;
    int fd;       // shared: the file beneath
    off_t offset; // shared: where in it the first page lies
    uint8_t *prot;
    uint8_t *key; // of open pages, and how they were opened; written by whoever has made them busy
    _Atomic uint8_t *state;
    atomic_int policy;      // an enum memprot_policy: what the memory itself says; set at any time, read by handlers
    _Atomic(char *) aside;  // private, duplicate: where pages are kept, mapped when first needed
    _Atomic(char *) opened; // shared, duplicate: what undecided pages were when they were opened, mapped likewise
    uintptr_t object;       // what was protected: a fault's place is told from its start; 0: nothing known
    size_t object_size;     // in bytes
    size_t holders;         // memory of others: the protections that use this overlay
    uint8_t few[3 * MEMPROT_OVERLAY_FEW]; // the arrays of a small overlay
};

/// Prepares an overlay whose pages are all in @p state with protection @p prot.
/// @return 0, or -1 with errno set and nothing to release.
int memprot_overlay_init(struct memprot_overlay *overlay, uintptr_t start, size_t pages, enum memprot_backing backing,
                         enum memprot_page_state state, uint8_t prot);

/// Releases what init took, not the pages themselves. All pages must be closed.
void memprot_overlay_deinit(struct memprot_overlay *overlay);

/// What the memory itself says of faults on it. May run in a signal handler.
static inline enum memprot_policy memprot_overlay_policy(const struct memprot_overlay *overlay) {
    return (enum memprot_policy)atomic_load_explicit(&overlay->policy, memory_order_relaxed);
}

/// Opens the page at @p page, and up to @p window pages from it in @p direction (+1 or -1) that are like it; only that
/// one where a key forbids the access.
/// @param[out] first,count the pages opened. May run in a signal handler.
enum memprot_opening memprot_overlay_open(struct memprot_overlay *overlay, size_t page,
                                          const struct memprot_blocked *blocked, size_t window, int direction,
                                          size_t *first, size_t *count);

/// The key of a page that is open, which it will have again, or that it had when it was open last; else 0. May run in a
/// signal handler.
int memprot_overlay_key(const struct memprot_overlay *overlay, size_t page);

/// Takes over from the kernel what protection pages have that are not open. Inside an epoch, or no child could be
/// forked meanwhile that uses them. May run in a signal handler.
void memprot_overlay_learn(struct memprot_overlay *overlay, size_t first, size_t count);

/// Whether the page's own protection, open or not, permits the access. May run in a signal handler.
bool memprot_overlay_permits(struct memprot_overlay *overlay, size_t page, bool write);
