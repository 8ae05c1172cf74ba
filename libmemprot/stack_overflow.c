#include "stack_overflow.h"

#include "context.h"
#include "own_maps.h"
#include "page.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

// What a function may touch below the stack pointer: the red zone of the System V ABI, and the word that is pushed.
enum { BELOW_POINTER = 128 + 16 };

// Frames that are larger than this are no frames: the stack pointer itself is wild.
static const uintptr_t largest_frame = (uintptr_t)64 << 20;

// Lies at the top of the stack that the process began with.
static uintptr_t top_of_first_stack;

__attribute__((constructor)) static void ask(void) { top_of_first_stack = getauxval(AT_RANDOM); }

// May run in a signal handler.
static bool holds(const struct memprot_mapping *mapping, uintptr_t address) {
    return address >= mapping->start && address < mapping->stop;
}

// The C library keeps what it knows of a thread at the top of its stack. May run in a signal handler.
static bool is_own_stack(const struct memprot_mapping *mapping) {
    return holds(mapping, (uintptr_t)pthread_self()) || holds(mapping, top_of_first_stack);
}

// The mapping that holds the address, or the first one above it; behind guards, which permit nothing. May run in a
// signal handler.
static bool find_above(uintptr_t address, struct memprot_mapping *ret) {
    for (uintptr_t at = address; memprot_own_maps_find(at, ret, NULL, 0) == 1; at = ret->stop) {
        if (ret->prot != PROT_NONE)
            return true;
    }
    return false;
}

// May run in a signal handler.
bool memprot_is_stack_overflow(const siginfo_t *info, const ucontext_t *context) {
    uintptr_t address = (uintptr_t)info->si_addr, pointer = memprot_context_stack(context);
    struct memprot_mapping stack;
    if (info->si_signo != SIGSEGV || (info->si_code != SEGV_MAPERR && info->si_code != SEGV_ACCERR) ||
        address + BELOW_POINTER < pointer || address - pointer + BELOW_POINTER > largest_frame ||
        !find_above(address, &stack) || !is_own_stack(&stack))
        return false;
    if (holds(&stack, address)) // what the mapping permits, a guard within it forbids
        return memprot_context_access(context, address) != MEMPROT_EXECUTE && (stack.prot & PROT_WRITE);
    return pointer < stack.start + memprot_page_size();
}
