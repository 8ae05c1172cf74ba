#include "fault.h"

#include "access.h"
#include "backtrace.h"
#include "decode.h"
#include "epoch.h"
#include "guard.h"
#include "page.h"
#include "ranges.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Nothing here is a lock: the handler runs on whatever the thread was doing.
static _Atomic(const struct memprot_fault_hooks *) hooks;
static atomic_int process_policy;
static atomic_int scopes;

// Written at installation, before the handler that reads them can run; a reinstallation swaps whole entries.
static struct sigaction previous[2];
static atomic_bool installed;

// A fault that continues the last one (the next page of the same copy) belongs to the same record.
struct burst {
    struct memprot_record *record;
    uint64_t sequence;
    size_t window;
};

static _Thread_local struct {
    struct burst burst;
    uintptr_t instruction, address;
    int attempts;
    bool inside, chaining;
} self;

enum { WINDOW_LIMIT = 256, ATTEMPT_LIMIT = 100000 };

static const int signals[2] = {SIGSEGV, SIGBUS};

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
        syscall(SYS_tgkill, getpid(), memprot_fault_thread(), signal);
}

// May run in a signal handler.
static void chain(int signal, siginfo_t *info, void *context) {
    struct sigaction *next = previous_of(signal);
    bool sent = info->si_code <= 0;
    if (self.chaining) {
        // The next handler raised the signal again to die of it, and has restored us as its predecessor.
        die_by_default(signal, sent);
        return;
    }
    if (next->sa_flags & SA_SIGINFO) {
        self.chaining = true;
        next->sa_sigaction(signal, info, context);
        self.chaining = false;
    } else if (next->sa_handler == SIG_DFL) {
        die_by_default(signal, sent);
    } else if (next->sa_handler != SIG_IGN) {
        self.chaining = true;
        next->sa_handler(signal);
        self.chaining = false;
    } else if (!sent) {
        die_by_default(signal, false); // the kernel does not let a fault be ignored either
    }
}

// May run in a signal handler.
static enum memprot_access access_of(const ucontext_t *context, uintptr_t address) {
#if defined(__x86_64__)
    greg_t error = context->uc_mcontext.gregs[REG_ERR];
    if (error & 16)
        return MEMPROT_EXECUTE;
    (void)address;
    return error & 2 ? MEMPROT_WRITE : MEMPROT_READ;
#elif defined(__aarch64__)
    if (context->uc_mcontext.pc == address)
        return MEMPROT_EXECUTE;
    for (const struct _aarch64_ctx *head = (const void *)context->uc_mcontext.__reserved; head->magic;
         head = (const void *)((const char *)head + head->size)) {
        if (head->magic == ESR_MAGIC)
            return ((const struct esr_context *)head)->esr & (1 << 6) ? MEMPROT_WRITE : MEMPROT_READ;
    }
    return MEMPROT_READ;
#endif
}

// May run in a signal handler.
static uintptr_t *instruction_of(ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t *)&context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t *)&context->uc_mcontext.pc;
#endif
}

// May run in a signal handler.
static enum memprot_policy effective_policy(void) {
    return atomic_load(&scopes) > 0 ? MEMPROT_POLICY_RAISE
                                    : (enum memprot_policy)atomic_load(&process_policy);
}

// Who called a function that is no code: the unwinder knows nothing about it, but a call leaves its return
// address. May run in a signal handler.
static uint32_t caller_of(const ucontext_t *context, uintptr_t *ret) {
#if defined(__x86_64__)
    return memprot_access_copy(ret, (void *)context->uc_mcontext.gregs[REG_RSP], sizeof *ret) == 0;
#elif defined(__aarch64__)
    *ret = context->uc_mcontext.regs[30];
    return 1;
#endif
}

// The part of the access that is forbidden: from the address that faulted to its end, or to where its block
// begins. Zero when the instruction does not tell. May run in a signal handler.
static size_t bytes_outside(const struct memprot_record *record, ucontext_t *context) {
    unsigned char code[MEMPROT_INSTRUCTION_MAX];
    struct memprot_operand operand;
    size_t missing = memprot_access_copy(code, (void *)*instruction_of(context), sizeof code);
    if (!memprot_decode_operand(code, sizeof code - missing, context, record->address, &operand) ||
        !operand.known_address)
        return 0;
    uintptr_t stop = operand.address + operand.size;
    if (record->block.address > record->address && stop > record->block.address)
        stop = record->block.address;
    return stop - record->address;
}

// May run in a signal handler.
static void fill(struct memprot_record *record, const siginfo_t *info, ucontext_t *context,
                 struct memprot_overlay *overlay) {
    record->thread = memprot_fault_thread();
    record->signal = info->si_signo;
    record->code = info->si_code;
    record->address = (uintptr_t)info->si_addr;
    record->access = access_of(context, record->address);
    record->guard = overlay && overlay->backing == MEMPROT_BACKING_GUARD;
    if (record->guard)
        memprot_guard_block_near(record->address, &record->block);
    record->size = bytes_outside(record, context);
    if (prctl(PR_GET_NAME, record->name) < 0)
        record->name[0] = '\0';
    record->pcs = memprot_backtrace(*instruction_of(context), record->pc, MEMPROT_RECORD_PCS);
    if (record->pcs == 1 && record->access == MEMPROT_EXECUTE)
        record->pcs += caller_of(context, &record->pc[1]);
}

// Whether the next handler is one that ends the process: none at all, or one that asks for no details and may
// be interrupted by itself, as those do that print and raise the signal again. Others (a virtual machine's)
// may recover. May run in a signal handler.
static bool is_final(const struct sigaction *next) {
    if (next->sa_flags & SA_SIGINFO)
        return false;
    return next->sa_handler == SIG_DFL || next->sa_handler == SIG_IGN || (next->sa_flags & SA_NODEFER);
}

// May run in a signal handler.
static void die(int signal, siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (to && is_final(previous_of(signal)) && !atomic_flag_test_and_set(&told)) {
        struct memprot_record *record = memprot_record_begin(MEMPROT_OWNER_ANYONE);
        if (record) {
            fill(record, info, context, overlay);
            to->describe(record, MEMPROT_POLICY_DIE);
        }
        to->die(record, overlay != NULL, context);
    }
    chain(signal, info, context);
}

// May run in a signal handler.
static void begin_burst(struct memprot_record *record, size_t window) {
    self.burst = (struct burst){record, record->sequence, window};
}

// May run in a signal handler.
static void include(struct memprot_record *record, size_t first, size_t count) {
    size_t low = first < record->first ? first : record->first;
    size_t high = first + count, old = record->first + record->count;
    record->first = low;
    record->count = (high > old ? high : old) - low;
}

// The page after, or before, the pages this thread has just opened: the same access goes on. Opens more of
// them each time. May run in a signal handler.
static enum memprot_opening continue_burst(struct memprot_overlay *overlay, size_t page,
                                           enum memprot_access access) {
    struct memprot_record *record = self.burst.record;
    enum memprot_opening opening = MEMPROT_RETRY;
    if (!record || !memprot_record_hold(record, self.burst.sequence))
        return MEMPROT_RETRY;
    bool after = page == record->first + record->count, before = page + 1 == record->first;
    if (record->overlay == overlay && record->access == access && (after || before)) {
        size_t first, count, window = 2 * self.burst.window;
        self.burst.window = window < WINDOW_LIMIT ? window : WINDOW_LIMIT;
        opening = memprot_overlay_open(overlay, page, access == MEMPROT_WRITE, self.burst.window,
                                       after ? 1 : -1, &first, &count);
        if (opening == MEMPROT_OPENED)
            include(record, first, count);
    }
    memprot_record_unhold(record);
    return opening;
}

// Every record is in use: this thread's last one answers for the pages as well. May run in a signal handler.
static bool fold(struct memprot_overlay *overlay, size_t first, size_t count) {
    struct memprot_record *record = self.burst.record;
    if (!record || !memprot_record_hold(record, self.burst.sequence))
        return false;
    bool same = record->overlay == overlay;
    if (same) {
        include(record, first, count);
        record->folded++;
    }
    memprot_record_unhold(record);
    return same;
}

// May run in a signal handler.
static bool recover(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                    enum memprot_policy policy) {
    uintptr_t address = (uintptr_t)info->si_addr, instruction = *instruction_of(context);
    enum memprot_access access = access_of(context, address);
    if (access == MEMPROT_EXECUTE || info->si_signo != SIGSEGV)
        return false;
    size_t page = (address - overlay->start) / memprot_page_size(), first, count;
    if (continue_burst(overlay, page, access) == MEMPROT_OPENED)
        return true;
    switch (memprot_overlay_open(overlay, page, access == MEMPROT_WRITE, 1, 1, &first, &count)) {
    case MEMPROT_OPENED:
        break;
    case MEMPROT_REFUSED:
        return false;
    case MEMPROT_RETRY:
        sched_yield();
        // fall through
    case MEMPROT_ALLOWED:
        // Somebody else resolved it: the access succeeds when tried again. Only a lack of progress counts.
        if (self.instruction != instruction || self.address != address)
            self.attempts = 0;
        self.instruction = instruction;
        self.address = address;
        return ++self.attempts < ATTEMPT_LIMIT;
    }
    self.attempts = 0;
    struct memprot_record *record = memprot_record_begin(MEMPROT_OWNER_ANYONE);
    if (!record)
        return fold(overlay, first, count) || (memprot_overlay_close(overlay, first, count), false);
    fill(record, info, context, overlay);
    record->overlay = overlay;
    record->first = first;
    record->count = count;
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    int owner = to ? to->describe(record, policy) : MEMPROT_OWNER_ANYONE;
    memprot_record_route(record, owner);
    begin_burst(record, 1);
    memprot_record_publish(record);
    if (to)
        to->deliver(owner, policy);
    return true;
}

// While a thread forks, handlers wait at the door: the child would inherit pages that nobody is left to
// finish.
static atomic_bool forking;
static int forking_thread;

// May run in a signal handler.
static int enter(void) {
    for (;;) {
        int token = memprot_epoch_enter();
        if (!atomic_load(&forking))
            return token;
        memprot_epoch_leave(token);
        sched_yield();
    }
}

static void before_fork(void) {
    forking_thread = memprot_fault_thread();
    atomic_store(&forking, true);
    memprot_epoch_wait();
}

static void after_fork_in_parent(void) {
    atomic_store(&forking, false);
}

static void after_fork_in_child(void) {
    self.burst.record = NULL;
    memprot_epoch_after_fork();
    memprot_overlay_after_fork();
    memprot_record_after_fork(forking_thread, memprot_fault_thread());
    atomic_store(&forking, false);
}

static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// May run in a signal handler.
static void handle(int signal, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    int error = errno;
    uintptr_t fixup = info->si_code > 0 ? memprot_access_fixup(*instruction_of(context)) : 0;
    if (fixup) {
        *memprot_access_last_failure() = (struct memprot_access_failure){(uintptr_t)info->si_addr, signal};
        *instruction_of(context) = fixup;
        return;
    }
    if (info->si_code <= 0 || self.inside || self.chaining) {
        chain(signal, info, context);
        errno = error;
        return;
    }
    self.inside = true;
    int token = enter();
    enum memprot_policy policy = effective_policy();
    struct memprot_overlay *overlay = memprot_guard_overlay_at((uintptr_t)info->si_addr);
    if (!overlay)
        overlay = memprot_ranges_find((uintptr_t)info->si_addr);
    bool recovered = overlay && (policy == MEMPROT_POLICY_RAISE || policy == MEMPROT_POLICY_LOG) &&
                     recover(info, context, overlay, policy);
    memprot_epoch_leave(token);
    self.inside = false;
    if (!recovered)
        die(signal, info, context, overlay);
    errno = error;
}

static bool is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handle;
}

int memprot_fault_install(void) {
    // NODEFER: a fault inside the handler reaches the next handler instead of killing the process in silence.
    struct sigaction ours = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER},
                     current;
    static pthread_once_t forks = PTHREAD_ONCE_INIT;
    pthread_once(&forks, watch_forks);
    memprot_backtrace_prepare();
    for (size_t i = 0; i < 2; i++) {
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        if (is_ours(&current))
            continue;
        previous[i] = current;
        if (sigaction(signals[i], &ours, NULL) < 0)
            return -1;
    }
    atomic_store(&installed, true);
    return 0;
}

int memprot_fault_uninstall(void) {
    if (!atomic_exchange(&installed, false))
        return 0;
    for (size_t i = 0; i < 2; i++) {
        struct sigaction current;
        if (sigaction(signals[i], NULL, &current) < 0)
            return -1;
        // Where another handler came later, it may call ours: ours stays, and passes everything on.
        if (is_ours(&current) && sigaction(signals[i], &previous[i], NULL) < 0)
            return -1;
    }
    return 0;
}

void memprot_fault_set_hooks(const struct memprot_fault_hooks *to) {
    atomic_store(&hooks, to);
}

void memprot_fault_set_policy(enum memprot_policy policy) {
    atomic_store(&process_policy, policy);
}

void memprot_fault_enter_scope(void) {
    atomic_fetch_add(&scopes, 1);
}

void memprot_fault_leave_scope(void) {
    atomic_fetch_sub(&scopes, 1);
}

bool memprot_fault_in_scope(void) {
    return atomic_load(&scopes) > 0;
}

// May run in a signal handler.
int memprot_fault_thread(void) {
    return (int)syscall(SYS_gettid);
}
