#include "context.h"

#include "access.h"

#if defined(__aarch64__)
#include <asm/sigcontext.h>
#endif

// May run in a signal handler.
enum memprot_access memprot_context_access(const ucontext_t *context, uintptr_t address) {
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
uintptr_t *memprot_context_instruction(ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t *)&context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t *)&context->uc_mcontext.pc;
#endif
}

// Who called a function that is no code: the unwinder knows nothing about it, but a call leaves its return
// address. May run in a signal handler.
uint32_t memprot_context_caller(const ucontext_t *context, uintptr_t *ret) {
#if defined(__x86_64__)
    return memprot_access_copy(ret, (void *)context->uc_mcontext.gregs[REG_RSP], sizeof *ret) == 0;
#elif defined(__aarch64__)
    *ret = context->uc_mcontext.regs[30];
    return 1;
#endif
}
