#include "chain.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int signals[2] = {SIGSEGV, SIGBUS};

// The handlers below ours, the oldest first; the last one is next. Changed under the caller's lock, and read by
// handlers, which take the count first (acquire). They stay known after the end: a handler may just be running.
enum { DEPTH = 16 };
static struct below {
    atomic_int count;
    struct sigaction actions[DEPTH];
} belows[2];

static bool installed[2]; // under the caller's lock

static _Thread_local bool passing;

static bool is_current(const struct sigaction *action, memprot_handler *handler) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handler;
}

static bool is_same(const struct sigaction *a, const struct sigaction *b) {
    return ((a->sa_flags ^ b->sa_flags) & SA_SIGINFO) == 0 && a->sa_handler == b->sa_handler;
}

// A handler that comes back on top is not kept twice; when there are more than anybody ever saw, the oldest is
// forgotten. The count is never 0 in between.
static void push(struct below *below, const struct sigaction *action, bool with_others) {
    int kept = 0, count = atomic_load(&below->count);
    for (int i = 0; i < count && with_others; i++) {
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

// From before ours is put on top until what it displaced is kept. Other threads that have run into ours meanwhile wait
// for the end of it; the thread that does it touches nothing that faults, but a signal may be sent to it.
static atomic_bool exchanging;
static _Thread_local volatile sig_atomic_t exchanging_here;
static _Thread_local siginfo_t missed;

// One call tells who was there before, too.
static int put_on_top(size_t i, const struct sigaction *ours) {
    struct sigaction displaced;
    missed.si_signo = 0;
    exchanging_here = 1;
    atomic_store(&exchanging, true);
    int failed = sigaction(signals[i], ours, &displaced);
    if (!failed && !is_current(&displaced, ours->sa_sigaction))
        push(&belows[i], &displaced, installed[i]);
    installed[i] |= !failed;
    atomic_store(&exchanging, false);
    exchanging_here = 0;
    if (missed.si_signo != 0)
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), missed.si_signo, &missed);
    return failed;
}

// Whether the handlers below are known; otherwise the signal comes again as soon as they are. May run in a signal
// handler.
static bool knows_belows(const siginfo_t *info) {
    if (exchanging_here) {
        missed = *info;
        return false;
    }
    while (atomic_load(&exchanging))
        sched_yield();
    return true;
}

int memprot_chain_install(memprot_handler *handler) {
    // NODEFER: a fault inside the handler reaches the next handler instead of killing the process in silence.
    struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER}, current;
    for (size_t i = 0; i < 2; i++) {
        if (installed[i]) { // then it is likely to be on top, and looking is all there is to do
            if (sigaction(signals[i], NULL, &current) < 0)
                return -1;
            if (is_current(&current, handler))
                continue;
        }
        if (put_on_top(i, &ours) < 0)
            return -1;
    }
    return 0;
}

bool memprot_chain_is_on_top(memprot_handler *handler) {
    struct sigaction current;
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0 || !is_current(&current, handler))
            return false;
    }
    return true;
}

// Looks before it puts anything back: were a handler that came later replaced and then put back at once, a fault that
// is its own business could slip through in between.
int memprot_chain_uninstall(memprot_handler *handler) {
    struct sigaction current;
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        int count = atomic_load(&belows[i].count);
        if (!is_current(&current, handler) || !installed[i] || count == 0)
            continue;
        if (sigaction(signals[i], &belows[i].actions[count - 1], NULL) < 0)
            return -1;
        installed[i] = false;
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
    // What it asked to have blocked meanwhile is, as if the kernel had called it: one more signal comes after this one.
    sigset_t blocked = to->sa_mask, before;
    if (!(to->sa_flags & SA_NODEFER))
        sigaddset(&blocked, signal);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    passing = true;
    if (to->sa_flags & SA_SIGINFO)
        to->sa_sigaction(signal, info, context);
    else
        to->sa_handler(signal);
    passing = false;
    if (!prints_and_dies(to))
        return true; // and the return from the signal unblocks: here, many signals would pile up on this stack
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return false;
}

// May run in a signal handler.
void memprot_chain_next(int signal, siginfo_t *info, void *context) {
    const struct below *below = &belows[signal == SIGBUS];
    if (!knows_belows(info))
        return;
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
    while (atomic_load(&exchanging) && !exchanging_here)
        sched_yield();
    int count = atomic_load_explicit(&below->count, memory_order_acquire);
    if (count == 0)
        return true;
    const struct sigaction *next = &below->actions[count - 1];
    if (next->sa_flags & SA_SIGINFO)
        return false;
    return next->sa_handler == SIG_DFL || next->sa_handler == SIG_IGN || prints_and_dies(next);
}
