#include "vector_register.h"

#if !defined(__x86_64__)

void memprot_vector_register_prepare(void) {}

// May run in a signal handler.
bool memprot_vector_register_read(const ucontext_t *context, unsigned number, size_t size, uint8_t *ret) {
    (void)context, (void)number, (void)size, (void)ret;
    return false;
}

// May run in a signal handler.
bool memprot_mask_register_read(const ucontext_t *context, unsigned number, uint64_t *ret) {
    (void)context, (void)number, (void)ret;
    return false;
}

#else

#include <cpuid.h>
#include <stdatomic.h>
#include <string.h>

// The parts of the saved state, by the bits that stand for them: the second 16 bytes of the first 16 registers, the
// opmask registers, the upper 32 bytes of the first 16, and the whole of the other 16.
enum part { YMM_HIGH = 2, OPMASK = 5, ZMM_HIGH = 6, HIGH_ZMM = 7, PARTS };

// What the kernel adds to the frame.
enum { XMM = 160, SOFTWARE_BYTES = 464, HEADER = 512, MAGIC = 0x46505853 };

static size_t offsets[PARTS]; // 0 where the processor has no such part

void memprot_vector_register_prepare(void) {
    static const enum part parts[] = {YMM_HIGH, OPMASK, ZMM_HIGH, HIGH_ZMM};
    static atomic_bool asked;
    if (atomic_load_explicit(&asked, memory_order_acquire))
        return;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        unsigned size, offset, c, d;
        if (__get_cpuid_count(0xd, parts[i], &size, &offset, &c, &d) && size)
            offsets[parts[i]] = offset;
    }
    atomic_store_explicit(&asked, true, memory_order_release);
}

// What is saved of a part; zeros where it was left out because it had its first value. May run in a signal handler.
static bool read_part(const ucontext_t *context, enum part part, size_t at, size_t size, uint8_t *ret) {
    const char *state = (const char *)context->uc_mcontext.fpregs;
    unsigned magic;
    uint64_t saved, present;
    memcpy(&magic, state + SOFTWARE_BYTES, sizeof magic);
    memcpy(&saved, state + SOFTWARE_BYTES + 8, sizeof saved);
    if (magic != MAGIC || !(saved >> part & 1) || !offsets[part])
        return false;
    memcpy(&present, state + HEADER, sizeof present);
    if (present >> part & 1)
        memcpy(ret, state + offsets[part] + at, size);
    else
        memset(ret, 0, size);
    return true;
}

// May run in a signal handler.
bool memprot_vector_register_read(const ucontext_t *context, unsigned number, size_t size, uint8_t *ret) {
    uint8_t whole[MEMPROT_VECTOR_MAX];
    if (!context->uc_mcontext.fpregs || size > sizeof whole)
        return false;
    if (number >= 16) {
        if (!read_part(context, HIGH_ZMM, 64 * (size_t)(number - 16), 64, whole))
            return false;
    } else {
        memcpy(whole, (const char *)context->uc_mcontext.fpregs + XMM + 16 * (size_t)number, 16);
        if (size > 16 && !read_part(context, YMM_HIGH, 16 * (size_t)number, 16, whole + 16))
            return false;
        if (size > 32 && !read_part(context, ZMM_HIGH, 32 * (size_t)number, 32, whole + 32))
            return false;
    }
    memcpy(ret, whole, size);
    return true;
}

// May run in a signal handler.
bool memprot_mask_register_read(const ucontext_t *context, unsigned number, uint64_t *ret) {
    uint8_t bytes[sizeof *ret];
    if (!context->uc_mcontext.fpregs || !read_part(context, OPMASK, sizeof bytes * number, sizeof bytes, bytes))
        return false;
    memcpy(ret, bytes, sizeof bytes);
    return true;
}

#endif
