#include "origin.h"

#include "fault.h"

#include <stdatomic.h>

static uint32_t (*_Atomic python_stack)(void);

void memprot_origin_set_python(uint32_t (*stack)(void)) { atomic_store(&python_stack, stack); }

void memprot_origin_capture(const struct memprot_caller *caller, struct memprot_origin *ret) {
    uint32_t (*python)(void) = atomic_load_explicit(&python_stack, memory_order_relaxed);
    *ret = (struct memprot_origin){
        .python = python ? python() : 0,
        .native = memprot_native_stack_capture(caller),
        .thread = memprot_fault_thread(),
    };
}
