// The vector registers as a signal handler finds them saved.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

enum { MEMPROT_VECTOR_MAX = 64 };

/// Asks the processor where it saves what, which is too slow for a handler in a virtual machine.
void memprot_vector_register_prepare(void);

/// Reads the low @p size bytes of a vector register of the interrupted code.
///
/// May run in a signal handler. Source: Intel SDM volume 1, chapter 13; arch/x86/include/uapi/asm/sigcontext.h.
/// @param number xmm, ymm and zmm registers alike: 0 to 31.
/// @param size At most MEMPROT_VECTOR_MAX.
/// @return Whether all of it was saved; else @p ret is not written.
bool memprot_vector_register_read(const ucontext_t *context, unsigned number, size_t size, uint8_t *ret);

/// Reads an opmask register of the interrupted code. May run in a signal handler.
/// @param number 0 to 7.
bool memprot_mask_register_read(const ucontext_t *context, unsigned number, uint64_t *ret);
