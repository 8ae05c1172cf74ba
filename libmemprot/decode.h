// What the instruction that faulted was about to access: which bytes of memory, from its first to its last.
#pragma once

#include "decode_size.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/// The longest instruction a supported CPU executes, in bytes: as many are worth reading for
/// memprot_decode_operand().
enum { MEMPROT_INSTRUCTION_MAX = 15 };

/// The memory operand of one instruction.
struct memprot_operand {
    /// First byte of the operand; 0 when it is not known.
    uintptr_t address;
    /// Bytes, never 0. For rep movs and rep stos all that the instruction still has to do, down to @ref
    /// address.
    size_t size;
    /// False when the address is relative to fs or gs, whose base the saved context does not hold.
    bool known_address;
    /// Whose operand it is.
    struct memprot_instruction instruction;
};

/// Find the memory operand of the instruction that @p context stopped at.
///
/// An instruction can have two operands (movs, cmps, push and call from memory): the answer is the one that
/// holds
/// @p fault_address. A rep cmps or rep scas answers with the element it stopped at, as its data decides how
/// far it would have gone. Everything that is not certain is answered with false: instructions whose reach
/// depends on a mask (maskmov, gather, scatter, xsave; AVX-512 but for moves whose elements are neighbours), a page
/// fault outside the decoded operand, and all of aarch64. Where the CPU names no address (a general protection fault),
/// a single operand is answered unchecked.
///
/// May run in a signal handler. Source: Intel SDM volume 2, chapters 2 and 3 to 6.
/// @param code The instruction's bytes, copied beforehand from the saved program counter.
/// @param available How many of them could be read; MEMPROT_INSTRUCTION_MAX are always enough.
/// @param context The third argument of a SA_SIGINFO handler; its trap number tells page faults from others.
/// @param fault_address si_addr of the signal.
/// @param[out] ret Written only when the answer is true.
/// @return Whether the operand is known.
bool memprot_decode_operand(const void *code, size_t available, const ucontext_t *context, uintptr_t fault_address,
                            struct memprot_operand *ret);
