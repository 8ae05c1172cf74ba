#include "fault_parts.h"

#include "access.h"
#include "backtrace.h"
#include "bus.h"
#include "call_site.h"
#include "chain.h"
#include "context.h"
#include "death.h"
#include "epoch.h"
#include "fault_bus.h"
#include "fault_call.h"
#include "fault_key.h"
#include "fault_pardon.h"
#include "forbidden.h"
#include "guard.h"
#include "guard_near.h"
#include "interrupted_stack.h"
#include "key_rights.h"
#include "overlay_close.h"
#include "own_maps.h"
#include "page.h"
#include "page_key.h"
#include "ranges.h"
#include "record_instruction.h"
#include "signal_calls.h"
#include "slot_access.h"
#include "suppression.h"
#include "vector_register.h"
#include "write_back.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Nothing here is a lock: the handler runs on whatever the thread was doing.
static _Atomic(const struct memprot_fault_hooks *) hooks;

static _Thread_local struct {
    struct memprot_burst burst;
    uintptr_t instruction, address;
    int attempts;
    int thread; // 0 until it is asked for
    bool inside;
} self;

static int process;

enum { WINDOW_LIMIT = 256, ATTEMPT_LIMIT = 100000 };

// May run in a signal handler.
struct memprot_burst *memprot_fault_burst(void) { return &self.burst; }

// May run in a signal handler.
const struct memprot_fault_hooks *memprot_fault_current_hooks(void) { return atomic_load(&hooks); }

// May run in a signal handler.
struct memprot_ruling memprot_fault_rule(const struct memprot_overlay *overlay) {
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    enum memprot_policy own = overlay ? memprot_overlay_policy(overlay) : MEMPROT_POLICY_NONE;
    return memprot_policy_rule(own, memprot_fault_thread(), to ? to->outer : NULL);
}

// May run in a signal handler.
void memprot_fault_fill(struct memprot_record *record, const siginfo_t *info, ucontext_t *context,
                        struct memprot_overlay *overlay) {
    record->thread = memprot_fault_thread();
    record->signal = info->si_signo;
    record->code = info->si_code;
    record->address = (uintptr_t)info->si_addr;
    record->key = memprot_fault_true_key(info, overlay);
    record->access = memprot_context_access(context, record->address);
    record->contexts = 0;
    record->guard = overlay && overlay->backing == MEMPROT_BACKING_GUARD;
    if (overlay && !record->guard)
        record->prot = overlay->prot[(record->address - overlay->start) / memprot_page_size()];
    if (overlay && overlay->object)
        record->block = (struct memprot_block){.address = overlay->object, .size = overlay->object_size};
    if (record->guard)
        memprot_guard_block_near(record->address, &record->block);
    memprot_record_instruction(record, context);
    if (memprot_fault_in_main_thread() || prctl(PR_GET_NAME, record->name) < 0)
        record->name[0] = '\0';
    if (record->access == MEMPROT_EXECUTE) {
        record->pc[0] = *memprot_context_instruction(context);
        record->pcs = 1;
        record->pcs += memprot_call_site_backtrace(context, &record->pc[1], MEMPROT_RECORD_PCS - 1);
    } else {
        record->pcs = memprot_interrupted_stack(context, record->pc, MEMPROT_RECORD_PCS);
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
    bool again = blocked->alone && page - record->first < record->count;
    bool alike = record->access == access && memprot_record_is_of(record, ruling);
    if (record->overlay == overlay && alike && (after || before || again)) {
        size_t first, count, window = 2 * self.burst.window;
        self.burst.window = window < WINDOW_LIMIT ? window : WINDOW_LIMIT;
        opening = memprot_overlay_open(overlay, page, blocked, self.burst.window, before ? -1 : 1, &first, &count);
        if (opening == MEMPROT_OPENED || opening == MEMPROT_OPEN_FOR_OTHERS)
            memprot_record_count(record);
        if (opening == MEMPROT_OPENED)
            include(record, first, count);
    }
    memprot_record_unhold(record);
    return opening;
}

// May run in a signal handler.
void memprot_fault_report(struct memprot_record *record, const struct memprot_ruling *ruling) {
    const struct memprot_fault_hooks *to = atomic_load(&hooks);
    memprot_record_count(record);
    record->ruling = *ruling;
    int owner = memprot_record_owner(ruling, to ? to->describe(record, ruling->policy) : MEMPROT_OWNER_ANYONE);
    // What a program asks about it is told, whoever else does not want to hear of it.
    if (ruling->policy != MEMPROT_POLICY_ASK)
        record->suppression = memprot_suppression_of(record);
    if (record->suppression)
        owner = MEMPROT_OWNER_LISTENERS;
    memprot_record_route(record, owner);
    memprot_record_publish(record);
    if (to)
        to->deliver(owner, ruling->policy);
}

// Few records are left: one that this thread has answers for these pages as well. May run in a signal
// handler.
static bool fold(const struct memprot_let_through *opened, const struct memprot_ruling *ruling) {
    struct memprot_record *record = memprot_record_hold_similar(memprot_fault_thread(), opened->overlay, ruling);
    if (!record)
        return false;
    if (opened->overlay && record->overlay) {
        include(record, opened->first, opened->count);
    } else if (opened->overlay) {
        record->first = opened->first;
        record->count = opened->count;
        record->overlay = opened->overlay;
    }
    memprot_fault_add_hole(record, opened->hole);
    record->folded++;
    memprot_record_count(record);
    memprot_record_unhold(record);
    return true;
}

// May run in a signal handler.
bool memprot_fault_tell(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay,
                        const struct memprot_ruling *ruling, const struct memprot_let_through *opened,
                        unsigned *rights) {
    self.attempts = 0;
    struct memprot_record *record = memprot_record_begin(false);
    if (!record && fold(opened, ruling)) {
        memprot_fault_grant(rights);
        return true;
    }
    if (!record)
        record = memprot_record_begin(true);
    if (!record) {
        if (opened->overlay)
            memprot_overlay_close(opened->overlay, opened->first, opened->count);
        memprot_hole_close(opened->hole);
        return false;
    }
    memprot_fault_fill(record, info, context, overlay);
    memprot_fault_grant(rights);
    record->overlay = opened->overlay;
    record->first = opened->first;
    record->count = opened->count;
    memprot_fault_add_hole(record, opened->hole);
    self.burst = (struct memprot_burst){record, record->sequence, .window = 1};
    memprot_fault_report(record, ruling);
    return true;
}

// Only a lack of progress counts. May run in a signal handler.
bool memprot_fault_try_again(ucontext_t *context, uintptr_t address) {
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
    if (access == MEMPROT_EXECUTE)
        return memprot_fault_recover_call(info, context, overlay, ruling);
    struct memprot_blocked blocked = {
        .write = access == MEMPROT_WRITE, .key = memprot_fault_key(info), .fate = memprot_overlay_fate(ruling->policy)};
    unsigned *rights = memprot_has_key_rights() ? memprot_context_key_rights(context) : NULL;
    blocked.alone = rights != NULL;
    if (blocked.key != MEMPROT_NO_KEY && !rights)
        return false;
    blocked.unreadable = blocked.key != MEMPROT_NO_KEY && !memprot_key_rights_permit(*rights, blocked.key, false);
    size_t page = (address - overlay->start) / memprot_page_size();
    struct memprot_let_through opened = {.overlay = overlay, .first = page, .count = 1};
    memprot_hole_put_back(memprot_page_floor(address), address + 1); // what is opened is the memory, not zeros over it
    enum memprot_opening continued = continue_burst(overlay, page, access, &blocked, ruling);
    if (continued == MEMPROT_RETRY)
        return memprot_fault_try_again(context, address);
    if (continued == MEMPROT_OPENED || continued == MEMPROT_OPEN_FOR_OTHERS) {
        memprot_fault_grant(rights);
        return true;
    }
    switch (memprot_overlay_open(overlay, page, &blocked, 1, 1, &opened.first, &opened.count)) {
    case MEMPROT_OPENED:
        break;
    case MEMPROT_OPEN_FOR_OTHERS:
        break; // one more access that is forbidden, to a page that is open already
    case MEMPROT_WITHOUT_BYTES:
        opened = (struct memprot_let_through){.overlay = NULL};
        if (memprot_bus_open_blocked(address, &opened.hole) != MEMPROT_BUS_OPENED)
            return memprot_fault_try_again(context, address);
        break;
    case MEMPROT_REFUSED:
        return memprot_pool_has_allowed(info, overlay, page, blocked.write) &&
               memprot_fault_try_again(context, address);
    case MEMPROT_RETRY:
    case MEMPROT_ALLOWED:
        return memprot_fault_try_again(context, address);
    }
    return memprot_fault_tell(info, context, overlay, ruling, &opened, rights);
}

static void before_fork(void) {
    memprot_policy_before_fork();
    memprot_epoch_before_fork();
}

static void after_fork_in_parent(void) {
    memprot_policy_after_fork();
    memprot_epoch_after_fork_in_parent();
}

static void after_fork_in_child(void) {
    int parent_thread = memprot_fault_thread();
    self.burst.record = NULL;
    self.thread = 0;
    process = getpid();
    memprot_epoch_after_fork_in_child();
    memprot_write_back_close_descriptor();
    memprot_own_maps_close();
    memprot_policy_after_fork_in_child(parent_thread, memprot_fault_thread());
    memprot_record_after_fork(parent_thread, memprot_fault_thread());
}

static void watch_forks(void) {
    process = getpid();
    memprot_guard_prepare(); // handlers that were registered later run before: theirs must not hold the pools' lock
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// One of our own accessors fails, unless what it met is none of its thread's business. May run in a signal handler.
static void fail_accessor(int signal, siginfo_t *info, ucontext_t *context, uintptr_t fixup) {
    int key = memprot_fault_key(info);
    if (memprot_has_key_rights() && !self.inside) {
        int token = memprot_epoch_enter();
        struct memprot_overlay *overlay = memprot_overlay_at((uintptr_t)info->si_addr);
        key = memprot_fault_true_key(info, overlay);
        bool permitted = overlay && memprot_fault_is_permitted(info, context, overlay);
        memprot_epoch_leave(token);
        if (permitted && memprot_fault_try_again(context, (uintptr_t)info->si_addr))
            return;
    }
    *memprot_access_last_failure() = (struct memprot_access_failure){(uintptr_t)info->si_addr, signal, key};
    *memprot_context_instruction(context) = fixup;
}

// May run in a signal handler.
static bool resolve(siginfo_t *info, ucontext_t *context, struct memprot_overlay *overlay, const void *frame) {
    struct memprot_ruling ruling = memprot_fault_rule(overlay);
    if (overlay)
        memprot_fault_look_for_pardon(info, context, overlay, &ruling);
    bool recovers = memprot_policy_recovers(ruling.policy);
    if (info->si_signo == SIGBUS)
        return recovers && memprot_fault_recover_bus(info, context, overlay, &ruling,
                                                     memprot_chain_may_recover(SIGBUS, context, frame));
    if (overlay && memprot_fault_is_permitted(info, context, overlay))
        return memprot_fault_try_again(context, (uintptr_t)info->si_addr);
    return overlay && recovers && recover(info, context, overlay, &ruling);
}

// A handler of somebody else's that may recover from faults of its own cannot know what this one means. May run in a
// signal handler.
static bool is_guard(const struct memprot_overlay *overlay) {
    return overlay && overlay->backing == MEMPROT_BACKING_GUARD;
}

// May run in a signal handler.
static void handle(int signal, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    const void *frame = __builtin_frame_address(0);
    int error = errno;
    if (info->si_signo == SIGBUS && info->si_code == BUS_ADRALN)
        memprot_context_allow_misaligned();
    uintptr_t fixup = info->si_code > 0 ? memprot_access_fixup(*memprot_context_instruction(context)) : 0;
    if (!fixup && info->si_code > 0)
        memprot_backtrace_give_up(signal);
    if (fixup || info->si_code <= 0 || self.inside || memprot_bus_is_early(info)) {
        if (fixup)
            fail_accessor(signal, info, context, fixup);
        else if (info->si_code <= 0 && self.inside)
            memprot_chain_hold(info); // its handler may never return, and the recovery must
        else
            memprot_chain_next(signal, info, context, frame);
        errno = error;
        return;
    }
    sigset_t mask;
    self.inside = true;
    memprot_chain_unblock(signal, &mask);
    unsigned rights = memprot_key_rights_read();
    memprot_key_rights_write(0); // to all keys: what was touched may lie under any of them
    int token = memprot_epoch_enter();
    struct memprot_overlay *overlay = memprot_overlay_at((uintptr_t)info->si_addr);
    bool resolved = resolve(info, context, overlay, frame);
    memprot_epoch_leave(token);
    self.inside = false;
    memprot_chain_send_held();
    if (!resolved && (is_guard(overlay) || memprot_chain_is_final(signal, context, frame)))
        memprot_fault_tell_death(info, context, overlay);
    memprot_key_rights_write(rights);
    if (!resolved)
        memprot_chain_next(signal, info, context, frame);
    memprot_chain_return(context, frame, &mask);
    errno = error;
}

void memprot_fault_prepare(void) {
    static pthread_once_t forks = PTHREAD_ONCE_INIT;
    pthread_once(&forks, watch_forks);
    memprot_vector_register_prepare();
}

int memprot_fault_install(void) {
    memprot_handlers_settle();
    memprot_fault_prepare();
    memprot_backtrace_prepare();
    return memprot_chain_install(handle, SIGSEGV) < 0 ? -1 : memprot_chain_install(handle, SIGBUS);
}

int memprot_fault_install_for_files(void) {
    memprot_fault_prepare();
    memprot_backtrace_prepare();
    return memprot_chain_come_back(handle, SIGBUS);
}

int memprot_fault_uninstall(bool but_for_files) {
    memprot_write_back_close_descriptor();
    memprot_own_key_free();
    if (memprot_chain_uninstall(SIGSEGV) < 0)
        return -1;
    return but_for_files ? 0 : memprot_chain_uninstall(SIGBUS);
}

int memprot_fault_uninstall_for_files(void) { return memprot_chain_withdraw(SIGBUS); }

void memprot_fault_set_hooks(const struct memprot_fault_hooks *to) { atomic_store(&hooks, to); }

// May run in a signal handler.
int memprot_fault_thread(void) {
    if (self.thread == 0)
        self.thread = (int)syscall(SYS_gettid);
    return self.thread;
}

// May run in a signal handler.
bool memprot_fault_in_main_thread(void) { return memprot_fault_thread() == process; }
