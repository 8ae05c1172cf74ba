#include "interrupted_stack.h"

#include "access.h"
#include "backtrace.h"
#include "call_site.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

// Unwinding takes longer than all else that a handler does, and faults come in loops.
enum { KNOWN_STACKS = 64, KNOWN_DEPTH = 32 };

struct stack {
    struct memprot_call_site start;
    uint32_t count;
    uintptr_t pcs[KNOWN_DEPTH], stacks[KNOWN_DEPTH];
};

// Whoever finds one taken does without.
static struct {
    atomic_flag taken;
    struct stack stack;
} known[KNOWN_STACKS];

// May run in a signal handler.
static size_t place_of(const struct memprot_call_site *start) {
    uint64_t hash = (start->back ^ start->stack >> 3) * 0x9e3779b97f4a7c15u;
    return hash >> 58;
}

// Where a function's return address is found depends on where it is called from: if every one of them is in its place,
// all of the stack is as it was. May run in a signal handler.
static bool is_as_it_was(const struct stack *stack) {
    for (uint32_t i = 1; i < stack->count; i++) {
        uintptr_t back;
        if (memprot_access_copy(&back, (void *)(stack->stacks[i] - sizeof back), sizeof back) > 0 ||
            back != stack->pcs[i])
            return false;
    }
    return true;
}

// May run in a signal handler.
static uint32_t recall(const struct memprot_call_site *start, uintptr_t *pcs, uint32_t capacity) {
    size_t place = place_of(start);
    uint32_t count = 0;
    if (atomic_flag_test_and_set(&known[place].taken))
        return 0;
    const struct stack *stack = &known[place].stack;
    if (memcmp(&stack->start, start, sizeof *start) == 0 && stack->count <= capacity && is_as_it_was(stack)) {
        count = stack->count;
        memcpy(pcs, stack->pcs, count * sizeof *pcs);
    }
    atomic_flag_clear(&known[place].taken);
    return count;
}

// Only what can be recognized: on x86-64 a return address lies right below its function's stack pointer. May run in a
// signal handler.
static void remember(const struct stack *stack) {
    size_t place = place_of(&stack->start);
    if (!is_as_it_was(stack) || atomic_flag_test_and_set(&known[place].taken))
        return;
    known[place].stack = *stack;
    atomic_flag_clear(&known[place].taken);
}

// May run in a signal handler.
uint32_t memprot_interrupted_stack(ucontext_t *context, uintptr_t *pcs, uint32_t capacity) {
    struct stack stack;
    memprot_call_site_take(context, &stack.start);
    stack.count = recall(&stack.start, pcs, capacity);
    if (stack.count > 0)
        return stack.count;
    struct memprot_backtrace_end end;
    capacity = capacity < KNOWN_DEPTH ? capacity : KNOWN_DEPTH;
    stack.count = memprot_backtrace(stack.start.back, stack.pcs, stack.stacks, capacity, &end);
    while (end.gap && stack.count < capacity) {
        struct memprot_call_site caller, gap = {stack.pcs[stack.count - 1], end.stack, end.frame};
        memprot_call_site_pretend(context, &gap);
        if (!memprot_call_site_find_caller(context, &caller) || caller.stack <= end.stack)
            break;
        struct memprot_call_site call = {caller.back - 1, caller.stack, caller.frame};
        memprot_call_site_pretend(context, &call);
        uint32_t at = stack.count;
        stack.count += memprot_backtrace(call.back, stack.pcs + at, stack.stacks + at, capacity - at, &end);
        stack.pcs[at] = caller.back;
        stack.stacks[at] = caller.stack;
    }
    memprot_call_site_pretend(context, &stack.start);
    remember(&stack);
    memcpy(pcs, stack.pcs, stack.count * sizeof *pcs);
    return stack.count;
}
