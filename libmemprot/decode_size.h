// How many bytes of memory an x86-64 instruction accesses, and how long its immediate is: tables of the
// opcode map.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum memprot_encoding { MEMPROT_LEGACY = 1, MEMPROT_VEX = 2, MEMPROT_EVEX = 4 };

/// Opcode maps: one-byte opcodes, 0F, 0F 38, 0F 3A, numbered as VEX and EVEX number them.
enum memprot_opcode_map { MEMPROT_MAP_ONE_BYTE, MEMPROT_MAP_0F, MEMPROT_MAP_0F38, MEMPROT_MAP_0F3A };

/// Mandatory prefixes, numbered as VEX and EVEX number them.
enum memprot_mandatory_prefix { MEMPROT_PREFIX_NONE, MEMPROT_PREFIX_66, MEMPROT_PREFIX_F3, MEMPROT_PREFIX_F2 };

/// One instruction as far as the size of its memory operand depends on it.
struct memprot_instruction {
    enum memprot_encoding encoding;
    enum memprot_opcode_map map;
    enum memprot_mandatory_prefix prefix;
    uint8_t opcode;
    /// Bits 3 to 5 of ModRM: a register, or more opcode.
    uint8_t reg;
    /// The same as the number of a register, with its extensions.
    uint8_t register_number;
    /// Any REX prefix: 4 to 7 then are the low bytes of their registers, else the second bytes of the first four.
    bool has_rex;
    /// A prefix moves the operand, or the source of a string instruction, to where fs or gs points.
    bool thread_segment;
    /// The bytes after ModRM, SIB and displacement, with their sign; 0 where there are none.
    int64_t immediate;
    /// Bytes, all told; for the instructions whose operand is known.
    size_t length;
    /// REX.W, VEX.W or EVEX.W.
    bool wide;
    /// A 66 prefix is present, be it the mandatory one or not.
    bool operand_size_prefix;
    /// EVEX.b: one element is read and repeated.
    bool broadcast;
    /// Bytes; 0 for the reserved encoding.
    size_t vector_length;
    /// Of the opmask register that says which elements take part; 0: all of them do.
    uint8_t mask;
    /// Bytes of the vector before the first element that takes part.
    size_t skipped;
};

/// @return The size of the memory operand that ModRM names, in bytes; 0 when it has none or it is not known.
/// May run in a signal handler.
size_t memprot_operand_size(const struct memprot_instruction *instruction);

/// @return The bytes after ModRM, SIB and displacement. May run in a signal handler.
size_t memprot_immediate_size(const struct memprot_instruction *instruction);

/// @return The size of a general operand: 2, 4 or 8 bytes by prefix 66 and REX.W. May run in a signal
/// handler.
size_t memprot_general_size(const struct memprot_instruction *instruction);
