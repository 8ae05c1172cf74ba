#include "chain.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int signals[2] = {SIGSEGV, SIGBUS};

// The handlers below ours, the oldest first; the last one is next. Changed under the caller's lock, while our handler
// is not the current one, and read by handlers, which take the count first (acquire).
enum { DEPTH = 16 };
static struct below {
    atomic_int count;
    struct sigaction actions[DEPTH];
} belows[2];

static _Thread_local bool passing;

static bool is_current(const struct sigaction *action, memprot_handler *handler) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handler;
}

static bool is_same(const struct sigaction *a, const struct sigaction *b) {
    return ((a->sa_flags ^ b->sa_flags) & SA_SIGINFO) == 0 && a->sa_handler == b->sa_handler;
}

// A handler that comes back on top is not kept twice; when there are more than anybody ever saw, the oldest is
// forgotten.
static void push(struct below *below, const struct sigaction *action) {
    int kept = 0, count = atomic_load(&below->count);
    for (int i = 0; i < count; i++) {
        if (!is_same(&below->actions[i], action))
            below->actions[kept++] = below->actions[i];
    }
    if (kept == DEPTH) {
        kept--;
        memmove(&below->actions[1], &below->actions[2], (DEPTH - 2) * sizeof *below->actions);
    }
    below->actions[kept++] = *action;
    atomic_store_explicit(&below->count, kept, memory_order_release);
}

int memprot_chain_install(memprot_handler *handler) {
    // NODEFER: a fault inside the handler reaches the next handler instead of killing the process in silence.
    struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, current;
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        if (is_current(&current, handler))
            continue;
        push(&belows[i], &current);
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
        int count = atomic_load(&belows[i].count);
        if (!is_current(&current, handler) || count == 0)
            continue;
        if (sigaction(signals[i], &belows[i].actions[count - 1], NULL) < 0)
            return -1;
        atomic_store(&belows[i].count, 0);
    }
    return 0;
}

// Whether a handler asks for no details and may be interrupted by itself: so do those that print what they know, put
// their predecessor back and raise the signal again. One that returns has nothing to say any more.
// May run in a signal handler.
static bool prints_and_dies(const struct sigaction *action) {
    return !(action->sa_flags & SA_SIGINFO) && (action->sa_flags & SA_NODEFER);
}

// May run in a signal handler.
static void die_by_default(int signal, bool sent) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
    // A fault happens again on return, at its true instruction; a signal that was sent has to be sent again.
    if (sent)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
}

// Whether the handler has answered; otherwise the one below it is next. May run in a signal handler.
static bool pass(const struct sigaction *to, int signal, siginfo_t *info, void *context) {
    bool sent = info->si_code <= 0;
    if (!(to->sa_flags & SA_SIGINFO) && to->sa_handler == SIG_DFL) {
        die_by_default(signal, sent);
        return true;
    }
    if (!(to->sa_flags & SA_SIGINFO) && to->sa_handler == SIG_IGN) {
        if (!sent)
            die_by_default(signal, false); // the kernel does not let a fault be ignored either
        return true;
    }
    passing = true;
    if (to->sa_flags & SA_SIGINFO)
        to->sa_sigaction(signal, info, context);
    else
        to->sa_handler(signal);
    passing = false;
    return !prints_and_dies(to);
}

// May run in a signal handler.
void memprot_chain_next(int signal, siginfo_t *info, void *context) {
    const struct below *below = &belows[signal == SIGBUS];
    // While passing: the next handler raised the signal again to die of it, and has put us back as its predecessor.
    for (int i = atomic_load_explicit(&below->count, memory_order_acquire) - 1; i >= 0 && !passing; i--) {
        struct sigaction to = below->actions[i];
        if (pass(&to, signal, info, context))
            return;
    }
    die_by_default(signal, info->si_code <= 0);
}

// May run in a signal handler.
bool memprot_chain_is_passing(void) { return passing; }

// May run in a signal handler.
bool memprot_chain_is_final(int signal) {
    const struct below *below = &belows[signal == SIGBUS];
    int count = atomic_load_explicit(&below->count, memory_order_acquire);
    if (count == 0)
        return true;
    const struct sigaction *next = &below->actions[count - 1];
    if (next->sa_flags & SA_SIGINFO)
        return false;
    return next->sa_handler == SIG_DFL || next->sa_handler == SIG_IGN || prints_and_dies(next);
}
