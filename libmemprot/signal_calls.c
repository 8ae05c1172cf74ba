#include "signal_calls.h"

#include <pthread.h>

atomic_bool memprot_handlers_noted;
_Thread_local enum memprot_mask memprot_mask_noted;

// May run in a signal handler.
static void note_handler(int signal) {
    if (signal == SIGSEGV || signal == SIGBUS)
        atomic_store(&memprot_handlers_noted, true);
}

// May run in a signal handler.
int memprot_watched_sigaction(int signal, const struct sigaction *action, struct sigaction *before) {
    int failed = sigaction(signal, action, before);
    if (!failed && action)
        note_handler(signal);
    return failed;
}

sighandler_t memprot_watched_signal(int number, sighandler_t handler) {
    sighandler_t before = signal(number, handler);
    if (before != SIG_ERR)
        note_handler(number);
    return before;
}

// May run in a signal handler.
int memprot_watched_pthread_sigmask(int how, const sigset_t *mask, sigset_t *before) {
    int error = pthread_sigmask(how, mask, before);
    if (mask)
        memprot_mask_noted = MEMPROT_MASK_UNKNOWN;
    return error;
}

// May run in a signal handler.
int memprot_watched_sigprocmask(int how, const sigset_t *mask, sigset_t *before) {
    int failed = sigprocmask(how, mask, before);
    if (mask)
        memprot_mask_noted = MEMPROT_MASK_UNKNOWN;
    return failed;
}

void memprot_handlers_settle(void) { atomic_store(&memprot_handlers_noted, false); }

enum memprot_mask memprot_mask_ask(void) {
    sigset_t mask;
    if (pthread_sigmask(SIG_BLOCK, NULL, &mask) != 0)
        return MEMPROT_MASK_BLOCKS; // the careful answer
    bool blocks = sigismember(&mask, SIGSEGV) || sigismember(&mask, SIGBUS);
    return memprot_mask_noted = blocks ? MEMPROT_MASK_BLOCKS : MEMPROT_MASK_OPEN;
}
