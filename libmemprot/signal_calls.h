// Whether a fault of the calling thread would reach memprot's handlers, known without a system call.
//
// The functions that change handlers and signal masks are watched where objects import them (see kernel_calls.h for
// what is not seen), and leave a note when SIGSEGV or SIGBUS are concerned. A mask that comes back by siglongjmp(3) or
// setcontext(3) leaves none.
#pragma once

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

// What takes the place of the functions. Each may run in a signal handler.
int memprot_watched_sigaction(int signal, const struct sigaction *action, struct sigaction *before);
sighandler_t memprot_watched_signal(int signal, sighandler_t handler);
int memprot_watched_pthread_sigmask(int how, const sigset_t *mask, sigset_t *before);
int memprot_watched_sigprocmask(int how, const sigset_t *mask, sigset_t *before);

enum memprot_mask { MEMPROT_MASK_UNKNOWN, MEMPROT_MASK_OPEN, MEMPROT_MASK_BLOCKS };

extern atomic_bool memprot_handlers_noted;
extern _Thread_local enum memprot_mask memprot_mask_noted;

/// Whether somebody has installed a handler since memprot_handlers_settle().
static inline bool memprot_handlers_were_changed(void) {
    return atomic_load_explicit(&memprot_handlers_noted, memory_order_relaxed);
}

/// To be called before it is looked whether memprot's handlers are on top.
void memprot_handlers_settle(void);

/// Asks the kernel.
enum memprot_mask memprot_mask_ask(void);

/// Whether the calling thread blocks SIGSEGV or SIGBUS.
static inline bool memprot_mask_blocks_faults(void) {
    enum memprot_mask mask = memprot_mask_noted;
    return (mask == MEMPROT_MASK_UNKNOWN ? memprot_mask_ask() : mask) == MEMPROT_MASK_BLOCKS;
}
