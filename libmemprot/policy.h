// What is to happen to a fault, and who says so: the memory itself, a scope of the thread, a scope of another thread,
// or the process.
//
// Handlers read it without a lock. A scope is a place in a table that is never given back, written by the thread that
// opens or closes it and read by the handlers of all threads. Its `order` says whether the rest may be believed: 0
// while it is closed or written (release), unique while it is open; whoever reads the rest looks at it before (acquire)
// and after (behind a fence), and what has changed in between counts as closed.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum memprot_policy {
    MEMPROT_POLICY_DIE,     // report and die of the signal
    MEMPROT_POLICY_RAISE,   // recover; the deliverer makes an exception of it
    MEMPROT_POLICY_LOG,     // let it happen; the deliverer notes it
    MEMPROT_POLICY_ABORT,   // as DIE, but asked for
    MEMPROT_POLICY_DISCARD, // recover; the deliverer notes it
    MEMPROT_POLICY_ASK,     // recover; the deliverer asks what is to be done, and does it
    MEMPROT_POLICY_NONE,    // of memory: it says nothing of its own
};

/// Where a policy came from: a scope by its number, which is positive, or one of these.
enum { MEMPROT_SOURCE_PROCESS = 0, MEMPROT_SOURCE_MEMORY = -1 };

struct memprot_ruling {
    enum memprot_policy policy;
    int source;
    int scope; ///< the number of the faulting thread's own innermost scope; 0 for none
};

/// A chain of what an interpreter runs code in, the innermost first: the one inside @p context, which is 0 for the
/// start of the calling thread's chain. 0 ends it. May run in a signal handler.
typedef uintptr_t memprot_outer_context(uintptr_t context);

/// Whether a fault under it is recorded, and the program goes on. May run in a signal handler.
static inline bool memprot_policy_recovers(enum memprot_policy policy) {
    return policy != MEMPROT_POLICY_DIE && policy != MEMPROT_POLICY_ABORT;
}

/// What happens to faults where nothing else says so.
void memprot_policy_of_process(enum memprot_policy policy);

/// Says for memory what happens to faults on it; handlers read it at any time.
void memprot_policy_of_memory(atomic_int *of, enum memprot_policy policy);

/// From now on memprot_policy_may_record() says yes: what is not recovered from is told too.
void memprot_policy_record_deaths(void);

/// Whether anything, here or in another thread, would have a fault recorded. May run in a signal handler.
bool memprot_policy_may_record(void);

struct memprot_scope;

/// A scope that is closed, to be opened and closed as often as one likes.
/// @return NULL with errno set when there is no memory.
struct memprot_scope *memprot_scope_create(void);

/// Gives it to the next who wants one; it must be closed.
void memprot_scope_destroy(struct memprot_scope *scope);

/// Opens it for a thread, and there for code that runs in @p context or in one inside of it.
void memprot_scope_open(struct memprot_scope *scope, int thread, uintptr_t context, enum memprot_policy policy);
void memprot_scope_close(struct memprot_scope *scope);

/// Says of a closed scope that it has claimed what it will: what is still its own is anyone's.
void memprot_scope_end(struct memprot_scope *scope);

/// What whoever created it keeps there; it is set and read under a lock of theirs.
void memprot_scope_set_user(struct memprot_scope *scope, void *user);
void *memprot_scope_user(const struct memprot_scope *scope);

/// A number that is its own as long as it exists.
int memprot_scope_number(const struct memprot_scope *scope);

/// The scope of a number, open or not; NULL for none. May run in a signal handler.
struct memprot_scope *memprot_scope_of(int number);

/// Whether it was opened and has not ended yet. May run in a signal handler.
bool memprot_scope_may_claim(const struct memprot_scope *scope);

/// Whether it was opened by the calling thread, whose id is given, in a context of its present chain. May run in a
/// signal handler.
bool memprot_scope_is_here(const struct memprot_scope *scope, int thread, memprot_outer_context *outer);

/// Whether any scope is open. May run in a signal handler.
bool memprot_scope_is_any_open(void);

/// What to do about a fault of the calling thread. May run in a signal handler.
/// @param of_memory what the memory itself says.
/// @param thread the calling thread's id.
/// @param outer NULL where threads have no contexts.
struct memprot_ruling memprot_policy_rule(enum memprot_policy of_memory, int thread, memprot_outer_context *outer);

/// Around a fork. In the child the surviving thread has another id, and the scopes of the others are closed.
void memprot_policy_before_fork(void);
void memprot_policy_after_fork(void);
void memprot_policy_after_fork_in_child(int parent_thread, int thread);
