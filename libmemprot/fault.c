#include "fault.h"

#include "access.h"
#include "backtrace.h"
#include "chain.h"
#include "context.h"
#include "decode.h"
#include "epoch.h"
#include "fault_key.h"
#include "guard.h"
#include "key_rights.h"
#include "overlay_close.h"
#include "own_maps.h"
#include "page.h"
#include "page_key.h"
#include "ranges.h"
#include "write_back.h"

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
    record->key = memprot_fault_true_key(info, overlay);
    record->access = memprot_context_access(context, record->address);
    record->contexts = 0;
    record->guard = overlay && overlay->backing == MEMPROT_BACKING_GUARD;
    if (overlay && overlay->object)
        record->block = (struct memprot_block){overlay->object, overlay->object_size, 0};
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
static void tell_death(int signal, siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
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
}

// May run in a signal handler.
static void include(struct memprot_record *record, size_t first, size_t count) {
    size_t low = first < record->first ? first : record->first;
    size_t high = first + count, old = record->first + record->count;
    record->first = low;
    record->count = (high > old ? high : old) - low;
}

// The page after, or before, the pages this thread has just opened: the same access goes on. Opens more of
// them each time. Or one of these pages again, which was closed for a thread that may use it. May run in a signal
// handler.
static enum memprot_opening continue_burst(struct memprot_overlay *overlay, size_t page, enum memprot_access access,
                                           const struct memprot_blocked *blocked, const struct memprot_ruling *ruling) {
    struct memprot_record *record = self.burst.record;
    enum memprot_opening opening = MEMPROT_REFUSED; // another access
    if (!record || !memprot_record_hold(record, self.burst.sequence))
        return opening;
    bool after = page == record->first + record->count, before = page + 1 == record->first;
    bool again = blocked->key != MEMPROT_NO_KEY && page - record->first < record->count;
    bool alike = record->access == access && memprot_record_is_of(record, ruling);
    if (record->overlay == overlay && alike && (after || before || again)) {
        size_t first, count, window = 2 * self.burst.window;
        self.burst.window = window < WINDOW_LIMIT ? window : WINDOW_LIMIT;
        opening = memprot_overlay_open(overlay, page, blocked, self.burst.window, before ? -1 : 1, &first, &count);
        if (opening == MEMPROT_OPENED)
            include(record, first, count);
    }
    memprot_record_unhold(record);
    return opening;
}

// Few records are left: one that this thread has answers for these pages as well. May run in a signal
// handler.
static bool fold(struct memprot_overlay *overlay, size_t first, size_t count, const struct memprot_ruling *ruling) {
    struct memprot_record *record = memprot_record_hold_similar(memprot_fault_thread(), overlay, ruling);
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

// Somebody else resolved it, or is about to: the access succeeds when tried again. Only a lack of progress counts. May
// run in a signal handler.
static bool try_again(ucontext_t *context, uintptr_t address) {
    uintptr_t instruction = *memprot_context_instruction(context);
    sched_yield();
    if (self.instruction != instruction || self.address != address)
        self.attempts = 0;
    self.instruction = instruction;
    self.address = address;
    return ++self.attempts < ATTEMPT_LIMIT;
}

// May run in a signal handler.
static bool recover(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                    const struct memprot_ruling *ruling) {
    uintptr_t address = (uintptr_t)info->si_addr;
    enum memprot_access access = memprot_context_access(context, address);
    if (access == MEMPROT_EXECUTE || info->si_signo != SIGSEGV)
        return false;
    struct memprot_blocked blocked = {
        .write = access == MEMPROT_WRITE, .key = memprot_fault_key(info), .fate = memprot_overlay_fate(ruling->policy)};
    unsigned *rights = blocked.key != MEMPROT_NO_KEY ? memprot_context_key_rights(context) : NULL;
    if (blocked.key != MEMPROT_NO_KEY && !rights)
        return false;
    blocked.unreadable = rights && !memprot_key_rights_permit(*rights, blocked.key, false);
    size_t page = (address - overlay->start) / memprot_page_size(), first = page, count = 1;
    enum memprot_opening continued = continue_burst(overlay, page, access, &blocked, ruling);
    if (continued == MEMPROT_RETRY)
        return try_again(context, address);
    if (continued == MEMPROT_OPENED || continued == MEMPROT_OPEN_FOR_OTHERS) {
        memprot_fault_grant(rights);
        return true;
    }
    switch (memprot_overlay_open(overlay, page, &blocked, 1, 1, &first, &count)) {
    case MEMPROT_OPENED:
        break;
    case MEMPROT_OPEN_FOR_OTHERS:
        break; // one more access that is forbidden, to a page that is open already
    case MEMPROT_REFUSED:
        return false;
    case MEMPROT_RETRY:
    case MEMPROT_ALLOWED:
        return try_again(context, address);
    }
    self.attempts = 0;
    struct memprot_record *record = memprot_record_begin(false);
    if (!record && fold(overlay, first, count, ruling)) {
        memprot_fault_grant(rights);
        return true;
    }
    if (!record)
        record = memprot_record_begin(true);
    if (!record) {
        memprot_overlay_close(overlay, first, count);
        return false;
    }
    fill(record, info, context, overlay);
    memprot_fault_grant(rights);
    record->overlay = overlay;
    record->first = first;
    record->count = count;
    record->ruling = *ruling;
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    int owner = memprot_record_owner(ruling, to ? to->describe(record, ruling->policy) : MEMPROT_OWNER_ANYONE);
    memprot_record_route(record, owner);
    self.burst = (struct burst){record, record->sequence, .window = 1};
    memprot_record_publish(record);
    if (to)
        to->deliver(owner, ruling->policy);
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
    memprot_policy_before_fork();
    atomic_store(&forking, true);
    memprot_epoch_wait();
}

static void after_fork_in_parent(void) {
    memprot_policy_after_fork();
    atomic_store(&forking, false);
}

static void after_fork_in_child(void) {
    self.burst.record = NULL;
    self.thread = 0;
    process = getpid();
    memprot_epoch_after_fork();
    memprot_write_back_close_descriptor();
    memprot_own_maps_close();
    memprot_policy_after_fork_in_child(forking_thread, memprot_fault_thread());
    memprot_record_after_fork(forking_thread, memprot_fault_thread());
    atomic_store(&forking, false);
}

static void watch_forks(void) {
    process = getpid();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// The data between a pool's guards is not the pool's to open, but it may have been protected by itself. May run in a
// signal handler.
static struct memprot_overlay *overlay_at(uintptr_t address) {
    struct memprot_overlay *pool = memprot_guard_overlay_at(address);
    if (pool && atomic_load(&pool->state[(address - pool->start) / memprot_page_size()]) != MEMPROT_PAGE_FOREIGN)
        return pool;
    struct memprot_overlay *overlay = memprot_ranges_find(address);
    return overlay ? overlay : pool;
}

// One of our own accessors fails, unless what it met is none of its thread's business. May run in a signal handler.
static void fail_accessor(int signal, siginfo_t *info, ucontext_t *context, uintptr_t fixup) {
    int key = memprot_fault_key(info);
    if (memprot_has_key_rights() && !self.inside) {
        int token = enter();
        struct memprot_overlay *overlay = overlay_at((uintptr_t)info->si_addr);
        key = memprot_fault_true_key(info, overlay);
        bool permitted = overlay && memprot_fault_is_permitted(info, context, overlay);
        memprot_epoch_leave(token);
        if (permitted && try_again(context, (uintptr_t)info->si_addr))
            return;
    }
    *memprot_access_last_failure() = (struct memprot_access_failure){(uintptr_t)info->si_addr, signal, key};
    *memprot_context_instruction(context) = fixup;
}

// May run in a signal handler.
static bool resolve(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay) {
    if (!overlay)
        return false;
    if (memprot_fault_is_permitted(info, context, overlay))
        return try_again(context, (uintptr_t)info->si_addr);
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    struct memprot_ruling ruling =
        memprot_policy_rule(memprot_overlay_policy(overlay), memprot_fault_thread(), to ? to->outer : NULL);
    return ruling.policy != MEMPROT_POLICY_DIE && ruling.policy != MEMPROT_POLICY_ABORT &&
           recover(info, context, overlay, &ruling);
}

// May run in a signal handler.
static void handle(int signal, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    int error = errno;
    uintptr_t fixup = info->si_code > 0 ? memprot_access_fixup(*memprot_context_instruction(context)) : 0;
    if (fixup) {
        fail_accessor(signal, info, context, fixup);
        errno = error;
        return;
    }
    if (info->si_code <= 0 || self.inside || memprot_chain_is_passing()) {
        memprot_chain_next(signal, info, context);
        errno = error;
        return;
    }
    self.inside = true;
    unsigned rights = memprot_key_rights_read();
    memprot_key_rights_write(0); // to all keys: what was touched may lie under any of them
    int token = enter();
    struct memprot_overlay *overlay = overlay_at((uintptr_t)info->si_addr);
    bool resolved = resolve(info, context, overlay);
    memprot_epoch_leave(token);
    self.inside = false;
    if (!resolved)
        tell_death(signal, info, context, overlay);
    memprot_key_rights_write(rights);
    if (!resolved)
        memprot_chain_next(signal, info, context);
    errno = error;
}

void memprot_fault_prepare(void) {
    static pthread_once_t forks = PTHREAD_ONCE_INIT;
    pthread_once(&forks, watch_forks);
}

int memprot_fault_install(void) {
    memprot_fault_prepare();
    memprot_backtrace_prepare();
    if (memprot_chain_install(handle) < 0)
        return -1;
    atomic_store(&installed, true);
    return 0;
}

bool memprot_fault_is_on_top(void) { return memprot_chain_is_on_top(handle); }

int memprot_fault_uninstall(void) {
    if (!atomic_exchange(&installed, false))
        return 0;
    memprot_write_back_close_descriptor();
    memprot_own_key_free();
    return memprot_chain_uninstall(handle);
}

void memprot_fault_set_hooks(const struct memprot_fault_hooks *to) { atomic_store(&hooks, to); }

// May run in a signal handler.
int memprot_fault_thread(void) {
    if (self.thread == 0)
        self.thread = (int)syscall(SYS_gettid);
    return self.thread;
}

// May run in a signal handler.
bool memprot_fault_in_main_thread(void) { return memprot_fault_thread() == process; }
