#include "chain.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
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

// The handler this thread is passing a signal on to. One that leaves by siglongjmp never returns here: what stands in
// these fields may be long over, and says something only together with where the stack is now.
static _Thread_local struct passing {
    const void *context;
    const void *frame; // of our handler
    int level;
} passing;

static bool is_current(const struct sigaction *action, memprot_handler *handler) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handler;
}

static bool is_same(const struct sigaction *a, const struct sigaction *b) {
    return ((a->sa_flags ^ b->sa_flags) & SA_SIGINFO) == 0 && a->sa_handler == b->sa_handler;
}

// May run in a signal handler.
static bool is_plain(const struct sigaction *action, void (*handler)(int)) {
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == handler;
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
// for the end of it; the thread that does it touches nothing that faults, and what is sent to it waits.
static atomic_bool exchanging;

// The exchange tells who was there before, too. What a signal that is passed on does to a system call it interrupts is
// for the next handler to say, and so it is known before.
static int put_on_top(size_t i, struct sigaction *ours, const struct sigaction *current) {
    struct sigaction displaced;
    sigset_t both, before;
    sigemptyset(&both);
    sigaddset(&both, SIGSEGV);
    sigaddset(&both, SIGBUS);
    bool restart = (current->sa_flags & SA_RESTART) || is_plain(current, SIG_IGN);
    ours->sa_flags = (ours->sa_flags & ~SA_RESTART) | (restart ? SA_RESTART : 0);
    pthread_sigmask(SIG_BLOCK, &both, &before);
    atomic_store(&exchanging, true);
    int failed = sigaction(signals[i], ours, &displaced);
    if (!failed && !is_current(&displaced, ours->sa_sigaction))
        push(&belows[i], &displaced, installed[i]);
    installed[i] |= !failed;
    atomic_store(&exchanging, false);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

// May run in a signal handler.
static int levels(int signal) {
    while (atomic_load(&exchanging))
        sched_yield();
    return atomic_load_explicit(&belows[signal == SIGBUS].count, memory_order_acquire);
}

int memprot_chain_install(memprot_handler *handler) {
    struct sigaction ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK}, current;
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        if (installed[i] && is_current(&current, handler))
            continue;
        if (put_on_top(i, &ours, &current) < 0)
            return -1;
    }
    return 0;
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

// May run in a signal handler.
void memprot_chain_unblock(int signal, sigset_t *ret) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    pthread_sigmask(SIG_UNBLOCK, &one, ret);
}

// Whether a handler asks for no details and may be interrupted by itself: so do those that print what they know, put
// their predecessor back and raise the signal again. One that returns has nothing to say any more.
// May run in a signal handler.
static bool prints_and_dies(const struct sigaction *action) {
    return !(action->sa_flags & SA_SIGINFO) && (action->sa_flags & SA_NODEFER);
}

// Whether the handler that the signal is being passed to has called ours in turn. (A new signal that has its context in
// the same place has the frame of its handler in the same place too.) May run in a signal handler.
static bool is_called_back(const void *context, const void *frame) {
    return passing.context == context && frame < passing.frame;
}

// May run in a signal handler.
void memprot_chain_return(const void *context, const void *frame, const sigset_t *mask) {
    if (is_called_back(context, frame))
        pthread_sigmask(SIG_SETMASK, mask, NULL);
}

// May run in a signal handler.
static const void *interrupted_stack(const ucontext_t *context) {
#if defined(__x86_64__)
    return (const void *)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (const void *)context->uc_mcontext.sp;
#endif
}

// Which handler is to answer: the one below the one that has called ours, or that is dying inside; otherwise the top
// one, also when it is running, for the kernel would call it again. May run in a signal handler.
static int first_level(const struct below *below, int count, const void *context, const void *frame) {
    int level = passing.level < count ? passing.level : count - 1;
    if (level < 0)
        return level;
    bool dying =
        passing.context && prints_and_dies(&below->actions[level]) && interrupted_stack(context) < passing.frame;
    return dying || is_called_back(context, frame) ? level - 1 : count - 1;
}

// May run in a signal handler.
static void die_by_default(int signal, bool sent) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t before;
    sigaction(signal, &action, NULL);
    // A fault happens again on return, at its true instruction; a signal that was sent has to be sent again.
    if (!sent)
        return;
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
    memprot_chain_unblock(signal, &before);
}

// What the handler wants to have blocked while it runs. May run in a signal handler.
static void block_for(const struct sigaction *to, int signal, const ucontext_t *context, bool called_back,
                      sigset_t *ret) {
    sigset_t wanted = to->sa_mask;
    if (!(to->sa_flags & SA_NODEFER))
        sigaddset(&wanted, signal);
    if (called_back) {
        pthread_sigmask(SIG_BLOCK, &wanted, ret);
        return;
    }
    uint64_t masked; // the kernel's set has no more bits, and its frame goes on after them
    memcpy(&masked, &context->uc_sigmask, sizeof masked);
    for (int other = 1; other < (int)(8 * sizeof masked); other++) {
        if (masked >> (other - 1) & 1)
            sigaddset(&wanted, other);
    }
    pthread_sigmask(SIG_SETMASK, &wanted, ret);
}

// Whether the handler has answered; otherwise the one below it is next. May run in a signal handler.
static bool pass(struct below *below, int level, int signal, siginfo_t *info, void *context, const void *frame) {
    struct sigaction *at = &below->actions[level], to = *at;
    bool sent = info->si_code <= 0, called_back = is_called_back(context, frame);
    if (is_plain(&to, SIG_DFL)) {
        die_by_default(signal, sent);
        return true;
    }
    if (is_plain(&to, SIG_IGN)) {
        if (!sent)
            die_by_default(signal, false); // the kernel does not let a fault be ignored either
        return true;
    }
    if (to.sa_flags & SA_RESETHAND)
        *at = (struct sigaction){.sa_handler = SIG_DFL};
    sigset_t before;
    block_for(&to, signal, context, called_back, &before);
    struct passing outer = passing;
    passing = (struct passing){context, frame, level};
    if (to.sa_flags & SA_SIGINFO)
        to.sa_sigaction(signal, info, context);
    else
        to.sa_handler(signal);
    passing = outer;
    if (!prints_and_dies(&to) && !called_back)
        return true; // and the return from the signal unblocks: here, many signals would pile up on this stack
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !prints_and_dies(&to);
}

// May run in a signal handler.
void memprot_chain_next(int signal, siginfo_t *info, void *context, const void *frame) {
    struct below *below = &belows[signal == SIGBUS];
    for (int i = first_level(below, levels(signal), context, frame); i >= 0; i--) {
        if (pass(below, i, signal, info, context, frame))
            return;
    }
    die_by_default(signal, info->si_code <= 0);
}

static _Thread_local siginfo_t held[2];

// May run in a signal handler.
void memprot_chain_hold(const siginfo_t *info) { held[info->si_signo == SIGBUS] = *info; }

// May run in a signal handler.
void memprot_chain_send_held(void) {
    for (size_t i = 0; i < 2; i++) {
        siginfo_t info = held[i];
        held[i].si_signo = 0;
        if (info.si_signo != 0)
            syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), info.si_signo, &info);
    }
}

// May run in a signal handler.
bool memprot_chain_is_final(int signal, const void *context, const void *frame) {
    const struct below *below = &belows[signal == SIGBUS];
    int level = first_level(below, levels(signal), context, frame);
    if (level < 0)
        return true;
    const struct sigaction *next = &below->actions[level];
    return is_plain(next, SIG_DFL) || is_plain(next, SIG_IGN) || prints_and_dies(next);
}
