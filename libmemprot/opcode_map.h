// The x86-64 opcode map, as far as sizes of memory operands go: which rule gives an instruction's size.
#pragma once

#include "decode_size.h"

/// How the size of a memory operand follows from the instruction; the values below MEMPROT_SIZE_FULL are the
/// bytes.
enum memprot_size_rule {
    MEMPROT_SIZE_UNKNOWN = 0,
    /// The vector.
    MEMPROT_SIZE_FULL = 100,
    /// Parts of the vector, as in conversions between element widths.
    MEMPROT_SIZE_HALF,
    MEMPROT_SIZE_QUARTER,
    MEMPROT_SIZE_EIGHTH,
    /// movddup: 8 bytes of a 16-byte vector, the whole of longer ones.
    MEMPROT_SIZE_DUPLICATE,
    /// Half, or the whole where EVEX.W says that the elements keep their width.
    MEMPROT_SIZE_HALF_OR_FULL,
    /// 8 bytes; only the legacy encoding has such registers.
    MEMPROT_SIZE_MMX,
    /// 2, 4 or 8 bytes by prefix 66 and REX.W.
    MEMPROT_SIZE_GENERAL,
    /// 4 bytes, or 8 with W.
    MEMPROT_SIZE_WIDE,
    /// 8 bytes, or 2 with prefix 66.
    MEMPROT_SIZE_STACK,
};

/// @return An enum memprot_size_rule, or the bytes themselves. May run in a signal handler.
unsigned memprot_opcode_size_rule(const struct memprot_instruction *instruction);
