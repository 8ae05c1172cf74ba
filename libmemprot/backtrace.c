#include "backtrace.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <unwind.h>

static atomic_bool prepared;
static uintptr_t limit_start, limit_stop;

struct walk {
    uintptr_t instruction, *pcs;
    uint32_t count, capacity;
    bool reached;
};

// May run in a signal handler.
static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *opaque) {
    struct walk *walk = opaque;
    uintptr_t pc = _Unwind_GetIP(context);
    if (!walk->reached) { // still in the handler's own frames
        walk->reached = pc == walk->instruction;
        return _URC_NO_REASON;
    }
    if (walk->count == walk->capacity || pc == 0)
        return _URC_END_OF_STACK;
    walk->pcs[walk->count++] = pc;
    return pc >= limit_start && pc < limit_stop ? _URC_END_OF_STACK : _URC_NO_REASON;
}

void memprot_backtrace_prepare(void) {
    if (atomic_exchange(&prepared, true))
        return;
    uintptr_t pcs[2];
    memprot_backtrace(0, pcs, 2);
}

void memprot_backtrace_set_limit(uintptr_t start, uintptr_t stop) {
    limit_start = start;
    limit_stop = stop;
}

// May run in a signal handler: see the header for why that is sound.
uint32_t memprot_backtrace(uintptr_t instruction, uintptr_t *pcs, uint32_t capacity) {
    struct walk walk = {.instruction = instruction, .pcs = pcs, .count = 1, .capacity = capacity};
    pcs[0] = instruction;
    _Unwind_Backtrace(visit, &walk);
    return walk.count;
}
