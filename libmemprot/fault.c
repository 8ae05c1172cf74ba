#include "fault.h"

#include "access.h"
#include "backtrace.h"
#include "chain.h"
#include "context.h"
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
    int thread; // 0 until it is asked for
    bool inside;
} self;

static int process;

enum { WINDOW_LIMIT = 256, ATTEMPT_LIMIT = 100000 };

// May run in a signal handler.
static enum memprot_policy effective_policy(void) {
    return atomic_load(&scopes) > 0 ? MEMPROT_POLICY_RAISE : (enum memprot_policy)atomic_load(&process_policy);
}

// How much of the access is forbidden: from the address that faulted to its end, or to where its block begins. Zero
// when the instruction does not tell. A general protection fault (an address that no address space has, or one that is
// not aligned as the instruction wants) comes without an address: only the instruction knows it. May run in a signal
// handler.
static void examine_operand(struct memprot_record *record, ucontext_t *context) {
    unsigned char code[MEMPROT_INSTRUCTION_MAX];
    struct memprot_operand operand;
    size_t missing = memprot_access_copy(code, (void *)*memprot_context_instruction(context), sizeof code);
    record->size = 0;
    if (!memprot_decode_operand(code, sizeof code - missing, context, record->address, &operand) ||
        !operand.known_address)
        return;
    if (record->code == SI_KERNEL && record->address == 0)
        record->address = operand.address;
    uintptr_t stop = operand.address + operand.size;
    if (record->block.address > record->address && stop > record->block.address)
        stop = record->block.address;
    record->size = stop - record->address;
}

// May run in a signal handler.
static void fill(struct memprot_record *record, const siginfo_t *info, ucontext_t *context,
                 struct memprot_overlay *overlay) {
    record->thread = memprot_fault_thread();
    record->signal = info->si_signo;
    record->code = info->si_code;
    record->address = (uintptr_t)info->si_addr;
    record->access = memprot_context_access(context, record->address);
    record->guard = overlay && overlay->backing == MEMPROT_BACKING_GUARD;
    if (record->guard)
        memprot_guard_block_near(record->address, &record->block);
    examine_operand(record, context);
    if (memprot_fault_in_main_thread() || prctl(PR_GET_NAME, record->name) < 0)
        record->name[0] = '\0';
    uintptr_t instruction = *memprot_context_instruction(context);
    if (record->access == MEMPROT_EXECUTE) {
        // The unwinder would read what is no code, and fault in turn.
        record->pc[0] = instruction;
        record->pcs = 1 + memprot_context_caller(context, &record->pc[1]);
    } else {
        record->pcs = memprot_backtrace(instruction, record->pc, MEMPROT_RECORD_PCS);
    }
}

// Who tells why the process dies: nobody yet, a thread by its id, or NOBODY_ANY_MORE when it has been told.
enum { NOBODY_YET = 0, NOBODY_ANY_MORE = -1 };
static atomic_int teller;

// Another thread that faults meanwhile must not end the process before the first has told why; a fault of the telling
// thread itself must. May run in a signal handler.
static bool is_first_to_tell(void) {
    int nobody = NOBODY_YET, thread = memprot_fault_thread();
    if (atomic_compare_exchange_strong(&teller, &nobody, thread))
        return true;
    while (atomic_load(&teller) != NOBODY_ANY_MORE && atomic_load(&teller) != thread)
        sched_yield();
    return false;
}

// May run in a signal handler.
static void die(int signal, siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    if (to && memprot_chain_is_final(signal) && is_first_to_tell()) {
        struct memprot_record *record = memprot_record_begin(true);
        if (record) {
            fill(record, info, context, overlay);
            to->describe(record, MEMPROT_POLICY_DIE);
        }
        to->die(record, overlay != NULL, context);
        atomic_store(&teller, NOBODY_ANY_MORE);
    }
    memprot_chain_next(signal, info, context);
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
static enum memprot_opening continue_burst(struct memprot_overlay *overlay, size_t page, enum memprot_access access) {
    struct memprot_record *record = self.burst.record;
    enum memprot_opening opening = MEMPROT_RETRY;
    if (!record || !memprot_record_hold(record, self.burst.sequence))
        return MEMPROT_RETRY;
    bool after = page == record->first + record->count, before = page + 1 == record->first;
    if (record->overlay == overlay && record->access == access && (after || before)) {
        size_t first, count, window = 2 * self.burst.window;
        self.burst.window = window < WINDOW_LIMIT ? window : WINDOW_LIMIT;
        opening = memprot_overlay_open(overlay, page, access == MEMPROT_WRITE, self.burst.window, after ? 1 : -1,
                                       &first, &count);
        if (opening == MEMPROT_OPENED)
            include(record, first, count);
    }
    memprot_record_unhold(record);
    return opening;
}

// Few records are left: one that this thread has answers for these pages as well. May run in a signal
// handler.
static bool fold(struct memprot_overlay *overlay, size_t first, size_t count) {
    struct memprot_record *record = memprot_record_hold_similar(memprot_fault_thread(), overlay);
    if (!record)
        return false;
    if (record->overlay) {
        include(record, first, count);
    } else {
        record->first = first;
        record->count = count;
        record->overlay = overlay;
    }
    record->folded++;
    memprot_record_unhold(record);
    return true;
}

// May run in a signal handler.
static bool recover(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay, enum memprot_policy policy) {
    uintptr_t address = (uintptr_t)info->si_addr, instruction = *memprot_context_instruction(context);
    enum memprot_access access = memprot_context_access(context, address);
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
    struct memprot_record *record = memprot_record_begin(false);
    if (!record && fold(overlay, first, count))
        return true;
    if (!record)
        record = memprot_record_begin(true);
    if (!record) {
        memprot_overlay_close(overlay, first, count);
        return false;
    }
    fill(record, info, context, overlay);
    record->overlay = overlay;
    record->first = first;
    record->count = count;
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    int owner = to ? to->describe(record, policy) : MEMPROT_OWNER_ANYONE;
    memprot_record_route(record, owner);
    self.burst = (struct burst){record, record->sequence, .window = 1};
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

static void after_fork_in_parent(void) { atomic_store(&forking, false); }

static void after_fork_in_child(void) {
    self.burst.record = NULL;
    self.thread = 0;
    process = getpid();
    memprot_epoch_after_fork();
    memprot_overlay_close_descriptor();
    memprot_record_after_fork(forking_thread, memprot_fault_thread());
    atomic_store(&forking, false);
}

static void watch_forks(void) {
    process = getpid();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// May run in a signal handler.
static void handle(int signal, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    int error = errno;
    uintptr_t fixup = info->si_code > 0 ? memprot_access_fixup(*memprot_context_instruction(context)) : 0;
    if (fixup) {
        *memprot_access_last_failure() = (struct memprot_access_failure){(uintptr_t)info->si_addr, signal};
        *memprot_context_instruction(context) = fixup;
        return;
    }
    if (info->si_code <= 0 || self.inside || memprot_chain_is_passing()) {
        memprot_chain_next(signal, info, context);
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

int memprot_fault_install(void) {
    static pthread_once_t forks = PTHREAD_ONCE_INIT;
    pthread_once(&forks, watch_forks);
    memprot_backtrace_prepare();
    if (memprot_chain_install(handle) < 0)
        return -1;
    atomic_store(&installed, true);
    return 0;
}

int memprot_fault_uninstall(void) {
    if (!atomic_exchange(&installed, false))
        return 0;
    memprot_overlay_close_descriptor();
    return memprot_chain_uninstall(handle);
}

void memprot_fault_set_hooks(const struct memprot_fault_hooks *to) { atomic_store(&hooks, to); }

void memprot_fault_set_policy(enum memprot_policy policy) { atomic_store(&process_policy, policy); }

void memprot_fault_enter_scope(void) { atomic_fetch_add(&scopes, 1); }

void memprot_fault_leave_scope(void) { atomic_fetch_sub(&scopes, 1); }

bool memprot_fault_in_scope(void) { return atomic_load(&scopes) > 0; }

// May run in a signal handler.
int memprot_fault_thread(void) {
    if (self.thread == 0)
        self.thread = (int)syscall(SYS_gettid);
    return self.thread;
}

// May run in a signal handler.
bool memprot_fault_in_main_thread(void) { return memprot_fault_thread() == process; }
