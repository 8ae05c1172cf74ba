#include "decode_size.h"

#include "opcode_map.h"

// May run in a signal handler.
size_t memprot_general_size(const struct memprot_instruction *instruction) {
    if (instruction->wide)
        return 8;
    return instruction->operand_size_prefix ? 2 : 4;
}

// May run in a signal handler.
size_t memprot_operand_size(const struct memprot_instruction *instruction) {
    size_t vector = instruction->vector_length;
    size_t wide = instruction->wide ? 8 : 4;
    bool evex = instruction->encoding == MEMPROT_EVEX;
    unsigned rule = memprot_opcode_size_rule(instruction);
    if (instruction->broadcast)
        return rule == MEMPROT_SIZE_FULL || rule == MEMPROT_SIZE_HALF || rule == MEMPROT_SIZE_HALF_OR_FULL ? wide : 0;
    switch (rule) {
    case MEMPROT_SIZE_FULL:
        return vector;
    case MEMPROT_SIZE_HALF:
        return vector / 2;
    case MEMPROT_SIZE_QUARTER:
        return vector / 4;
    case MEMPROT_SIZE_EIGHTH:
        return vector / 8;
    case MEMPROT_SIZE_DUPLICATE:
        return vector == 16 ? 8 : vector;
    case MEMPROT_SIZE_HALF_OR_FULL:
        return evex && instruction->wide ? vector : vector / 2;
    case MEMPROT_SIZE_MMX:
        return instruction->encoding == MEMPROT_LEGACY ? 8 : 0;
    case MEMPROT_SIZE_GENERAL:
        return memprot_general_size(instruction);
    case MEMPROT_SIZE_WIDE:
        return wide;
    case MEMPROT_SIZE_STACK:
        return instruction->operand_size_prefix ? 2 : 8;
    default:
        return rule;
    }
}

// The immediate of a general operation: its operand's size, but never more than 4 bytes. May run in a signal
// handler.
static size_t general_immediate_size(const struct memprot_instruction *instruction) {
    return memprot_general_size(instruction) == 2 ? 2 : 4;
}

// May run in a signal handler.
static size_t one_byte_immediate_size(const struct memprot_instruction *instruction) {
    switch (instruction->opcode) {
    case 0x6a:
    case 0x6b:
    case 0x80:
    case 0x83:
    case 0xc0:
    case 0xc1:
    case 0xc6:
        return 1;
    case 0x69:
    case 0x81:
    case 0xc7:
        return general_immediate_size(instruction);
    case 0x68:
    case 0xe8:
        return 4;
    case 0xc2:
        return 2;
    case 0xf6:
        return instruction->reg <= 1 ? 1 : 0;
    case 0xf7:
        return instruction->reg <= 1 ? general_immediate_size(instruction) : 0;
    default:
        return 0;
    }
}

// May run in a signal handler.
size_t memprot_immediate_size(const struct memprot_instruction *instruction) {
    switch (instruction->map) {
    case MEMPROT_MAP_ONE_BYTE:
        return one_byte_immediate_size(instruction);
    case MEMPROT_MAP_0F3A:
        return 1;
    case MEMPROT_MAP_0F38:
        return 0;
    default:
        break;
    }
    switch (instruction->opcode) {
    case 0x70:
    case 0x71:
    case 0x72:
    case 0x73:
    case 0xa4:
    case 0xac:
    case 0xba:
    case 0xc2:
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return 1;
    default:
        return 0;
    }
}
