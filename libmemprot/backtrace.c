#include "backtrace.h"

#include "chain.h"
#include "key_rights.h"

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unwind.h>

#if defined(__x86_64__)
enum { FRAME_POINTER = 6 };
#elif defined(__aarch64__)
enum { FRAME_POINTER = 29 };
#endif

static atomic_bool prepared;
static uintptr_t limit_start, limit_stop;

// Where a walk goes on that meets a fault: a stack may be overwritten, and the unwinder believes it.
static _Thread_local sigjmp_buf *way_out;

struct walk {
    uintptr_t instruction, *pcs, *stacks;
    uint32_t count, capacity;
    bool reached, limited;
    uintptr_t stack, frame;
};

// May run in a signal handler.
static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *opaque) {
    struct walk *walk = opaque;
    uintptr_t pc = _Unwind_GetIP(context);
    if (!walk->reached && pc != walk->instruction)
        return _URC_NO_REASON; // still in the handler's own frames
    if (walk->count == walk->capacity || pc == 0) {
        walk->limited = true;
        return _URC_END_OF_STACK;
    }
    walk->stack = _Unwind_GetCFA(context);
    walk->frame = _Unwind_GetGR(context, FRAME_POINTER);
    uint32_t at = walk->reached ? walk->count++ : 0;
    walk->reached = true;
    walk->pcs[at] = pc;
    if (walk->stacks)
        walk->stacks[at] = walk->stack;
    walk->limited = pc >= limit_start && pc < limit_stop;
    return walk->limited ? _URC_END_OF_STACK : _URC_NO_REASON;
}

void memprot_backtrace_prepare(void) {
    if (atomic_exchange(&prepared, true))
        return;
    uintptr_t pcs[2];
    memprot_backtrace(0, pcs, NULL, 2, NULL);
}

void memprot_backtrace_set_limit(uintptr_t start, uintptr_t stop) {
    limit_start = start;
    limit_stop = stop;
}

// May run in a signal handler: see the header for why that is sound. The fault that ends a walk is met between the
// unwinder's look-ups, in memory that is not its own, so that nothing of it is left half done.
uint32_t memprot_backtrace(uintptr_t instruction, uintptr_t *pcs, uintptr_t *stacks, uint32_t capacity,
                           struct memprot_backtrace_end *end) {
    struct walk walk = {
        .instruction = instruction, .pcs = pcs, .stacks = stacks, .count = 1, .capacity = capacity, .limited = true};
    unsigned rights = memprot_key_rights_read();
    sigjmp_buf here;
    pcs[0] = instruction;
    int signal = sigsetjmp(here, 0);
    if (signal == 0) {
        way_out = &here;
        _Unwind_Backtrace(visit, &walk);
        way_out = NULL;
    } else {
        sigset_t before;
        memprot_chain_unblock(signal, &before);
        memprot_key_rights_write(rights);
        walk.limited = true;
    }
    if (end) {
        uintptr_t code = pcs[walk.count - 1] - (walk.count > 1);
        *end = (struct memprot_backtrace_end){.stack = walk.stack, .frame = walk.frame};
        end->gap = walk.reached && !walk.limited && !_Unwind_FindEnclosingFunction((void *)(code + 1));
    }
    return walk.count;
}

// May run in a signal handler.
void memprot_backtrace_give_up(int signal) {
    sigjmp_buf *to = way_out;
    if (!to)
        return;
    way_out = NULL;
    siglongjmp(*to, signal);
}
