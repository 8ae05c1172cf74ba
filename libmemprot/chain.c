#include "chain.h"

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int signals[2] = {SIGSEGV, SIGBUS};

// Written at installation, before the handler that reads them can run; a reinstallation swaps whole entries.
static struct sigaction previous[2];

static _Thread_local bool passing;

static bool is_current(const struct sigaction *action, memprot_handler *handler) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handler;
}

int memprot_chain_install(memprot_handler *handler) {
    // NODEFER: a fault inside the handler reaches the next handler instead of killing the process in silence.
    struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER},
                     current;
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        if (is_current(&current, handler))
            continue;
        previous[i] = current;
        if (sigaction(signals[i], &ours, NULL) < 0)
            return -1;
    }
    return 0;
}

int memprot_chain_uninstall(memprot_handler *handler) {
    struct sigaction current;
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        if (is_current(&current, handler) && sigaction(signals[i], &previous[i], NULL) < 0)
            return -1;
    }
    return 0;
}

// May run in a signal handler.
static struct sigaction *previous_of(int signal) {
    return &previous[signal == SIGBUS];
}

// May run in a signal handler.
static void die_by_default(int signal, bool sent) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    // A fault happens again on return, at its true instruction; a signal that was sent has to be sent again.
    if (sent)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
}

// May run in a signal handler.
static bool is_final(const struct sigaction *next) {
    if (next->sa_flags & SA_SIGINFO)
        return false;
    return next->sa_handler == SIG_DFL || next->sa_handler == SIG_IGN || (next->sa_flags & SA_NODEFER);
}

// May run in a signal handler.
void memprot_chain_next(int signal, siginfo_t *info, void *context) {
    const struct sigaction next = *previous_of(signal);
    bool sent = info->si_code <= 0;
    if (passing) {
        // The next handler raised the signal again to die of it, and has restored us as its predecessor.
        die_by_default(signal, sent);
    } else if (next.sa_flags & SA_SIGINFO) {
        passing = true;
        next.sa_sigaction(signal, info, context);
        passing = false;
    } else if (next.sa_handler == SIG_DFL) {
        die_by_default(signal, sent);
    } else if (next.sa_handler != SIG_IGN) {
        passing = true;
        next.sa_handler(signal);
        passing = false;
        // It has been disabled, as faulthandler can be, and does nothing any more: the fault would come again
        // forever.
        if (is_final(&next))
            die_by_default(signal, sent);
    } else if (!sent) {
        die_by_default(signal, false); // the kernel does not let a fault be ignored either
    }
}

// May run in a signal handler.
bool memprot_chain_is_passing(void) {
    return passing;
}

// May run in a signal handler.
bool memprot_chain_is_final(int signal) {
    return is_final(previous_of(signal));
}
