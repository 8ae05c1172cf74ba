#include "context.h"

#include "key_rights.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
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

// May run in a signal handler.
uintptr_t memprot_context_stack(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.sp;
#endif
}

#if defined(__x86_64__)
// Where the kernel's frame has the rights: struct _fpx_sw_bytes and struct _xstate in
// arch/x86/include/uapi/asm/sigcontext.h, and what the processor says of its own part. May run in a signal handler.
unsigned *memprot_context_key_rights(const ucontext_t *context) {
    enum { KEYS = 9, SOFTWARE_BYTES = 464, HEADER = 512, MAGIC = 0x46505853 };
    const uint64_t with_keys = (uint64_t)1 << KEYS;
    char *state = (char *)context->uc_mcontext.fpregs;
    unsigned magic, size, offset, c, d;
    uint64_t saved, present;
    if (!state || !memprot_has_key_rights() || !__get_cpuid_count(0xd, KEYS, &size, &offset, &c, &d))
        return NULL;
    memcpy(&magic, state + SOFTWARE_BYTES, sizeof magic);
    memcpy(&saved, state + SOFTWARE_BYTES + 8, sizeof saved);
    if (magic != MAGIC || !(saved & with_keys))
        return NULL;
    unsigned *rights = (unsigned *)(void *)(state + offset);
    memcpy(&present, state + HEADER, sizeof present);
    if (!(present & with_keys)) { // left out because the register has its first value
        *rights = 0;
        present |= with_keys;
        memcpy(state + HEADER, &present, sizeof present);
    }
    return rights;
}
#else
// May run in a signal handler.
unsigned *memprot_context_key_rights(const ucontext_t *context) {
    (void)context;
    return NULL;
}
#endif

// The kernel leaves the flag by which a program asks for checks of alignment as it was, and compiled code does not heed
// it. May run in a signal handler.
void memprot_context_allow_misaligned(void) {
#if defined(__x86_64__)
    const unsigned long long check = 1 << 18;
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~check);
#endif
}
