#include "chain.h"

#include "true_sigaction.h"

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
    struct one {
        struct sigaction action;
        unsigned displaced_by; // which installation of ours; 0 for the one that was found first
    } ones[DEPTH];
} belows[2];

// Ours carries in its signal mask, in signals that nobody misses for the length of a handler, how often it has been put
// on top. So one that puts ours back as its predecessor is seen to have withdrawn, and those above it with it.
static memprot_handler *own;
static unsigned newest[2];
static bool installed[2]; // these two under the caller's lock
enum { FIRST_DIGIT = 40, DIGITS = 24 };

// The handler this thread is passing a signal on to. One that leaves by siglongjmp never returns here: what stands in
// these fields may be long over, and says something only together with where the stack is now.
static _Thread_local struct passing {
    const void *context;
    const void *frame; // of our handler
    int level;
} passing;

// May run in a signal handler.
static bool is_same(const struct sigaction *a, const struct sigaction *b) {
    return ((a->sa_flags ^ b->sa_flags) & SA_SIGINFO) == 0 && a->sa_handler == b->sa_handler;
}

// May run in a signal handler.
static bool is_plain(const struct sigaction *action, void (*handler)(int)) {
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == handler;
}

// May run in a signal handler.
static bool is_own(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == own;
}

// The signals 1 to 64; the kernel has no others, and its frames no room for them. May run in a signal handler.
static uint64_t word_of(const sigset_t *set) {
    uint64_t word;
    memcpy(&word, set, sizeof word);
    return word;
}

// May run in a signal handler.
static unsigned installation_of(const struct sigaction *ours) {
    return (unsigned)(word_of(&ours->sa_mask) >> FIRST_DIGIT);
}

static void forget_withdrawn(struct below *below, const struct sigaction *ours) {
    int count = atomic_load(&below->count);
    while (count > 1 && below->ones[count - 1].displaced_by > installation_of(ours))
        count--;
    atomic_store(&below->count, count);
}

// A handler that comes back on top is not kept twice; when there are more than anybody ever saw, the oldest is
// forgotten. The count is never 0 in between.
static void push(struct below *below, const struct sigaction *action, unsigned by, bool with_others) {
    int kept = 0, count = atomic_load(&below->count);
    for (int i = 0; i < count && with_others; i++) {
        if (!is_same(&below->ones[i].action, action))
            below->ones[kept++] = below->ones[i];
    }
    if (kept == DEPTH) {
        kept--;
        memmove(&below->ones[1], &below->ones[2], (DEPTH - 2) * sizeof *below->ones);
    }
    below->ones[kept] = (struct one){*action, kept > 0 ? by : 0};
    atomic_store_explicit(&below->count, kept + 1, memory_order_release);
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

// From before ours is put on top until what it displaced is kept. Other threads that have run into ours meanwhile wait
// for the end of it; the thread that does it touches nothing that faults, and what is sent to it comes again
// afterwards.
static atomic_bool exchanging;
static _Thread_local volatile sig_atomic_t exchanging_here;

// May run in a signal handler.
static void begin_exchange(void) {
    exchanging_here = 1;
    atomic_store(&exchanging, true);
}

// May run in a signal handler.
static void end_exchange(void) {
    atomic_store(&exchanging, false);
    exchanging_here = 0;
    memprot_chain_send_held();
}

// May run in a signal handler.
static unsigned coming(size_t i) { return (newest[i] + 1) % (1u << DIGITS); }

// What a signal that is passed on does to a system call it interrupts is for the next handler to say, and so it is
// known before. May run in a signal handler.
static struct sigaction our_action(const struct sigaction *next, unsigned installation) {
    struct sigaction ours = {.sa_sigaction = own, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if ((next->sa_flags & SA_RESTART) || is_plain(next, SIG_IGN))
        ours.sa_flags |= SA_RESTART;
    uint64_t word = (uint64_t)installation << FIRST_DIGIT;
    memcpy(&ours.sa_mask, &word, sizeof word);
    return ours;
}

// When ours was away, one that came after it may still have it as its predecessor, and so those below it are kept.
static void keep_displaced(size_t i, const struct sigaction *displaced) {
    newest[i] = coming(i);
    if (is_own(displaced))
        forget_withdrawn(&belows[i], displaced);
    else
        push(&belows[i], displaced, newest[i], installed[i] || atomic_load(&belows[i].count) > 1);
    installed[i] = true;
}

// The exchange tells who was there before, too.
static int put_on_top(size_t i, const struct sigaction *current) {
    struct sigaction ours = our_action(current, coming(i)), displaced;
    begin_exchange();
    int failed = memprot_true_sigaction(signals[i], &ours, &displaced);
    if (!failed)
        keep_displaced(i, &displaced);
    end_exchange();
    return failed;
}

// Ours was here before, and most likely displaces the same handler as the last time.
static int put_back_on_top(size_t i) {
    const struct sigaction *last = &belows[i].ones[0].action;
    struct sigaction ours = our_action(last, coming(i)), displaced;
    begin_exchange();
    int failed = memprot_true_sigaction(signals[i], &ours, &displaced);
    bool as_before = !failed && is_same(&displaced, last) && displaced.sa_flags == last->sa_flags;
    if (as_before) {
        newest[i] = coming(i);
        installed[i] = true;
    } else if (!failed) {
        keep_displaced(i, &displaced);
    }
    end_exchange();
    return as_before ? 0 : failed ? failed : put_on_top(i, &displaced); // once more, as the one that is next wants it
}

// May run in a signal handler.
static int levels(int signal) {
    while (atomic_load(&exchanging))
        sched_yield();
    return atomic_load_explicit(&belows[signal == SIGBUS].count, memory_order_acquire);
}

int memprot_chain_install(memprot_handler *handler, int signal) {
    size_t i = signal == SIGBUS;
    struct sigaction current;
    own = handler;
    if (memprot_true_sigaction(signal, NULL, &current) < 0)
        return -1;
    if (installed[i] && is_own(&current) && installation_of(&current) == newest[i])
        return 0;
    return put_on_top(i, &current);
}

int memprot_chain_come_back(memprot_handler *handler, int signal) {
    size_t i = signal == SIGBUS;
    if (!installed[i] && atomic_load(&belows[i].count) == 1)
        return put_back_on_top(i);
    return memprot_chain_install(handler, signal);
}

// Looks before it puts anything back: were a handler that came later replaced and then put back at once, a fault that
// is its own business could slip through in between.
int memprot_chain_uninstall(int signal) {
    size_t i = signal == SIGBUS;
    struct sigaction current;
    if (!installed[i])
        return 0;
    if (memprot_true_sigaction(signal, NULL, &current) < 0)
        return -1;
    if (!is_own(&current))
        return 0;
    forget_withdrawn(&belows[i], &current);
    if (memprot_true_sigaction(signal, &belows[i].ones[belows[i].count - 1].action, NULL) < 0)
        return -1;
    installed[i] = false;
    return 0;
}

// In one call: what it displaces tells whether that was right, and is put back where it was not.
int memprot_chain_withdraw(int signal) {
    size_t i = signal == SIGBUS;
    struct sigaction displaced;
    if (!installed[i])
        return 0;
    if (memprot_true_sigaction(signal, &belows[i].ones[belows[i].count - 1].action, &displaced) < 0)
        return -1;
    installed[i] = false;
    if (is_own(&displaced) && installation_of(&displaced) == newest[i])
        return 0;
    installed[i] = true;
    return memprot_true_sigaction(signal, &displaced, NULL) < 0 ? -1 : memprot_chain_uninstall(signal);
}

// May run in a signal handler.
int memprot_chain_change_next(int signal, const struct sigaction *action, struct sigaction *ret) {
    static atomic_flag changing = ATOMIC_FLAG_INIT;
    size_t i = signal == SIGBUS;
    if (!installed[i] || atomic_load(&belows[i].count) == 0)
        return memprot_true_sigaction(signal, action, ret);
    struct sigaction wanted = action ? *action : (struct sigaction){.sa_handler = SIG_DFL};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (atomic_flag_test_and_set(&changing))
        sched_yield();
    struct sigaction *next = &belows[i].ones[atomic_load(&belows[i].count) - 1].action, former = *next;
    int failed = 0;
    if (action) {
        struct sigaction ours = our_action(&wanted, newest[i]);
        begin_exchange();
        failed = memprot_true_sigaction(signal, &ours, NULL);
        if (!failed)
            *next = wanted;
        end_exchange();
    }
    atomic_flag_clear(&changing);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret && !failed)
        *ret = former;
    return failed;
}

// May run in a signal handler.
void memprot_chain_unblock(int signal, sigset_t *ret) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    pthread_sigmask(SIG_UNBLOCK, &one, ret);
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

// Which handler is to answer: the one below the one that has called ours; otherwise the top one, also when it is
// running, for the kernel would call it again. May run in a signal handler.
static int first_level(int count, const void *context, const void *frame) {
    bool below_caller = is_called_back(context, frame) && passing.level < count;
    return (below_caller ? passing.level : count) - 1;
}

// That level, or the first below it whose handler has not withdrawn. May run in a signal handler.
static int present_level(const struct below *below, int level, int signal) {
    struct sigaction current;
    if (memprot_true_sigaction(signal, NULL, &current) < 0 || !is_own(&current))
        return level;
    while (level >= 0 && below->ones[level].displaced_by > installation_of(&current))
        level--;
    return level;
}

// May run in a signal handler.
static void die_by_default(int signal, bool sent) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t before;
    memprot_true_sigaction(signal, &action, NULL);
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
    uint64_t word = word_of(&wanted) | word_of(&context->uc_sigmask);
    memcpy(&wanted, &word, sizeof word);
    pthread_sigmask(SIG_SETMASK, &wanted, ret);
}

// May run in a signal handler.
static void call(struct sigaction to, int level, int signal, siginfo_t *info, void *context, const void *frame) {
    bool called_back = is_called_back(context, frame);
    sigset_t before;
    block_for(&to, signal, context, called_back, &before);
    struct passing outer = passing;
    passing = (struct passing){context, frame, level};
    if (to.sa_flags & SA_SIGINFO)
        to.sa_sigaction(signal, info, context);
    else
        to.sa_handler(signal);
    passing = outer;
    if (called_back) // else the return from the signal does it: here, many signals would pile up on this stack
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// May run in a signal handler.
void memprot_chain_next(int signal, siginfo_t *info, void *context, const void *frame) {
    if (exchanging_here) {
        memprot_chain_hold(info);
        return;
    }
    struct below *below = &belows[signal == SIGBUS];
    int level = present_level(below, first_level(levels(signal), context, frame), signal);
    struct sigaction to = level < 0 ? (struct sigaction){.sa_handler = SIG_DFL} : below->ones[level].action;
    bool sent = info->si_code <= 0;
    if (is_plain(&to, SIG_IGN) && sent)
        return;
    if (is_plain(&to, SIG_IGN) || is_plain(&to, SIG_DFL)) { // the kernel does not let a fault be ignored either
        die_by_default(signal, sent);
        return;
    }
    if (to.sa_flags & SA_RESETHAND)
        below->ones[level].action = (struct sigaction){.sa_handler = SIG_DFL};
    call(to, level, signal, info, context, frame);
}

// Whether a handler asks for no details and may be interrupted by itself: so do those that print what they know, put
// their predecessor back and raise the signal again. May run in a signal handler.
static bool prints_and_dies(const struct sigaction *action) {
    return (action->sa_flags & (SA_SIGINFO | SA_NODEFER | SA_RESETHAND)) == SA_NODEFER;
}

// May run in a signal handler.
bool memprot_chain_may_recover(int signal, const void *context, const void *frame) {
    const struct below *below = &belows[signal == SIGBUS];
    int level = present_level(below, first_level(levels(signal), context, frame), signal);
    return level >= 0 && (below->ones[level].action.sa_flags & SA_SIGINFO) &&
           !is_plain(&below->ones[level].action, SIG_DFL);
}

// May run in a signal handler.
bool memprot_chain_is_final(int signal, const void *context, const void *frame) {
    const struct below *below = &belows[signal == SIGBUS];
    int level = present_level(below, first_level(levels(signal), context, frame), signal);
    if (level < 0)
        return true;
    const struct sigaction *next = &below->ones[level].action;
    return is_plain(next, SIG_DFL) || is_plain(next, SIG_IGN) || prints_and_dies(next);
}
