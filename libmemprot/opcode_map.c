#include "opcode_map.h"

// Short names, so that a row of the tables below reads like one of the manual's.
enum {
    UNKNOWN = MEMPROT_SIZE_UNKNOWN,
    FULL = MEMPROT_SIZE_FULL,
    HALF = MEMPROT_SIZE_HALF,
    QUARTER = MEMPROT_SIZE_QUARTER,
    EIGHTH = MEMPROT_SIZE_EIGHTH,
    DUPLICATE = MEMPROT_SIZE_DUPLICATE,
    HALF_OR_FULL = MEMPROT_SIZE_HALF_OR_FULL,
    MMX = MEMPROT_SIZE_MMX,
    GENERAL = MEMPROT_SIZE_GENERAL,
    WIDE = MEMPROT_SIZE_WIDE,
    STACK = MEMPROT_SIZE_STACK,
};

enum {
    L = MEMPROT_LEGACY,
    V = MEMPROT_VEX,
    E = MEMPROT_EVEX,
    ALL = L | V | E,
};

// One row: the opcodes first to last of these encodings access that many bytes, by mandatory prefix none, 66,
// F3, F2.
struct opcode_range {
    uint8_t first, last, encodings;
    uint8_t sizes[4];
};

#define ANY_PREFIX(size) {size, size, size, size}

static const struct opcode_range map_0f[] = {
    {0x10, 0x11, ALL, {FULL, FULL, 4, 8}},
    {0x12, 0x12, ALL, {8, 8, FULL, DUPLICATE}},
    {0x13, 0x13, ALL, {8, 8}},
    {0x14, 0x15, ALL, {FULL, FULL}},
    {0x16, 0x16, ALL, {8, 8, FULL}},
    {0x17, 0x17, ALL, {8, 8}},
    {0x28, 0x29, ALL, {FULL, FULL}},
    {0x2a, 0x2a, L, {8, 8, WIDE, WIDE}},
    {0x2a, 0x2a, V | E, {0, 0, WIDE, WIDE}},
    {0x2b, 0x2b, ALL, {FULL, FULL}},
    {0x2c, 0x2d, L, {8, 16, 4, 8}},
    {0x2c, 0x2d, V | E, {0, 0, 4, 8}},
    {0x2e, 0x2f, ALL, {4, 8}},
    {0x40, 0x4f, L, ANY_PREFIX(GENERAL)},
    {0x51, 0x51, ALL, {FULL, FULL, 4, 8}},
    {0x52, 0x53, L | V, {FULL, 0, 4, 0}},
    {0x54, 0x57, ALL, {FULL, FULL}},
    {0x58, 0x59, ALL, {FULL, FULL, 4, 8}},
    {0x5a, 0x5a, ALL, {HALF, FULL, 4, 8}},
    {0x5b, 0x5b, ALL, {FULL, FULL, FULL}},
    {0x5c, 0x5f, ALL, {FULL, FULL, 4, 8}},
    {0x60, 0x62, L, {4, FULL}},
    {0x60, 0x62, V | E, {0, FULL}},
    {0x63, 0x6b, ALL, {MMX, FULL}},
    {0x6c, 0x6d, ALL, {0, FULL}},
    {0x6e, 0x6e, L, {WIDE, WIDE}},
    {0x6e, 0x6e, V | E, {0, WIDE}},
    {0x6f, 0x6f, ALL, {MMX, FULL, FULL}},
    {0x6f, 0x6f, E, {0, 0, 0, FULL}},
    {0x70, 0x70, ALL, {MMX, FULL, FULL, FULL}},
    {0x71, 0x73, E, {0, FULL}},
    {0x74, 0x76, ALL, {MMX, FULL}},
    {0x78, 0x79, E, {FULL, HALF_OR_FULL, 4, 8}},
    {0x7a, 0x7a, E, {0, HALF_OR_FULL, HALF_OR_FULL, FULL}},
    {0x7b, 0x7b, E, {0, HALF_OR_FULL, WIDE, WIDE}},
    {0x7c, 0x7d, L | V, {0, FULL, 0, FULL}},
    {0x7e, 0x7e, L, {WIDE, WIDE, 8}},
    {0x7e, 0x7e, V | E, {0, WIDE, 8}},
    {0x7f, 0x7f, ALL, {MMX, FULL, FULL}},
    {0x7f, 0x7f, E, {0, 0, 0, FULL}},
    {0x90, 0x9f, L, ANY_PREFIX(1)},
    {0xa4, 0xa5, L, ANY_PREFIX(GENERAL)},
    {0xac, 0xad, L, ANY_PREFIX(GENERAL)},
    {0xaf, 0xaf, L, ANY_PREFIX(GENERAL)},
    {0xb0, 0xb0, L, ANY_PREFIX(1)},
    {0xb1, 0xb1, L, ANY_PREFIX(GENERAL)},
    {0xb6, 0xb6, L, ANY_PREFIX(1)},
    {0xb7, 0xb7, L, ANY_PREFIX(2)},
    {0xb8, 0xb8, L, {0, 0, GENERAL}},
    {0xbc, 0xbd, L, ANY_PREFIX(GENERAL)},
    {0xbe, 0xbe, L, ANY_PREFIX(1)},
    {0xbf, 0xbf, L, ANY_PREFIX(2)},
    {0xc0, 0xc0, L, ANY_PREFIX(1)},
    {0xc1, 0xc1, L, ANY_PREFIX(GENERAL)},
    {0xc2, 0xc2, ALL, {FULL, FULL, 4, 8}},
    {0xc3, 0xc3, L, {WIDE}},
    {0xc4, 0xc4, L, {2, 2}},
    {0xc4, 0xc4, V | E, {0, 2}},
    {0xc6, 0xc6, ALL, {FULL, FULL}},
    {0xd0, 0xd0, L | V, {0, FULL, 0, FULL}},
    {0xd1, 0xd3, ALL, {MMX, 16}},
    {0xd4, 0xd5, ALL, {MMX, FULL}},
    {0xd6, 0xd6, ALL, {0, 8}},
    {0xd8, 0xe0, ALL, {MMX, FULL}},
    {0xe1, 0xe2, ALL, {MMX, 16}},
    {0xe3, 0xe5, ALL, {MMX, FULL}},
    {0xe6, 0xe6, ALL, {0, FULL, HALF_OR_FULL, FULL}},
    {0xe7, 0xef, ALL, {MMX, FULL}},
    {0xf0, 0xf0, L | V, {0, 0, 0, FULL}},
    {0xf1, 0xf3, ALL, {MMX, 16}},
    {0xf4, 0xf6, ALL, {MMX, FULL}},
    {0xf8, 0xfe, ALL, {MMX, FULL}},
};

static const struct opcode_range map_0f38[] = {
    {0x00, 0x0b, ALL, {MMX, FULL}},
    {0x0c, 0x0d, V | E, {0, FULL}},
    {0x0e, 0x0f, V, {0, FULL}},
    {0x10, 0x10, L, {0, FULL}},
    {0x14, 0x15, L, {0, FULL}},
    {0x10, 0x12, E, {0, FULL}},
    {0x13, 0x13, V | E, {0, HALF}},
    {0x14, 0x15, E, {0, FULL}},
    {0x16, 0x16, V | E, {0, FULL}},
    {0x17, 0x17, L | V, {0, FULL}},
    {0x18, 0x18, V | E, {0, 4}},
    {0x19, 0x19, V | E, {0, 8}},
    {0x1a, 0x1a, V | E, {0, 16}},
    {0x1b, 0x1b, E, {0, 32}},
    {0x1c, 0x1e, ALL, {MMX, FULL}},
    {0x1f, 0x1f, E, {0, FULL}},
    {0x10, 0x10, E, {0, 0, HALF}},
    {0x11, 0x11, E, {0, 0, QUARTER}},
    {0x12, 0x12, E, {0, 0, EIGHTH}},
    {0x13, 0x13, E, {0, 0, HALF}},
    {0x14, 0x14, E, {0, 0, QUARTER}},
    {0x15, 0x15, E, {0, 0, HALF}},
    {0x20, 0x20, ALL, {0, HALF}},
    {0x21, 0x21, ALL, {0, QUARTER}},
    {0x22, 0x22, ALL, {0, EIGHTH}},
    {0x23, 0x23, ALL, {0, HALF}},
    {0x24, 0x24, ALL, {0, QUARTER}},
    {0x25, 0x25, ALL, {0, HALF}},
    {0x20, 0x20, E, {0, 0, HALF}},
    {0x21, 0x21, E, {0, 0, QUARTER}},
    {0x22, 0x22, E, {0, 0, EIGHTH}},
    {0x23, 0x23, E, {0, 0, HALF}},
    {0x24, 0x24, E, {0, 0, QUARTER}},
    {0x25, 0x25, E, {0, 0, HALF}},
    {0x26, 0x27, E, {0, FULL, FULL}},
    {0x28, 0x2b, ALL, {0, FULL}},
    {0x2c, 0x2c, E, {0, FULL}},
    {0x2d, 0x2d, E, {0, WIDE}},
    {0x30, 0x30, ALL, {0, HALF}},
    {0x31, 0x31, ALL, {0, QUARTER}},
    {0x32, 0x32, ALL, {0, EIGHTH}},
    {0x33, 0x33, ALL, {0, HALF}},
    {0x34, 0x34, ALL, {0, QUARTER}},
    {0x35, 0x35, ALL, {0, HALF}},
    {0x30, 0x30, E, {0, 0, HALF}},
    {0x31, 0x31, E, {0, 0, QUARTER}},
    {0x32, 0x32, E, {0, 0, EIGHTH}},
    {0x33, 0x33, E, {0, 0, HALF}},
    {0x34, 0x34, E, {0, 0, QUARTER}},
    {0x35, 0x35, E, {0, 0, HALF}},
    {0x36, 0x36, V | E, {0, FULL}},
    {0x37, 0x40, ALL, {0, FULL}},
    {0x41, 0x41, L | V, {0, FULL}},
    {0x42, 0x42, E, {0, FULL}},
    {0x43, 0x43, E, {0, WIDE}},
    {0x44, 0x44, E, {0, FULL}},
    {0x45, 0x47, V | E, {0, FULL}},
    {0x4c, 0x4c, E, {0, FULL}},
    {0x4d, 0x4d, E, {0, WIDE}},
    {0x4e, 0x4e, E, {0, FULL}},
    {0x4f, 0x4f, E, {0, WIDE}},
    {0x50, 0x53, V | E, {0, FULL}},
    {0x52, 0x52, E, {0, 0, FULL}},
    {0x54, 0x55, E, {0, FULL}},
    {0x58, 0x58, V | E, {0, 4}},
    {0x59, 0x59, V | E, {0, 8}},
    {0x5a, 0x5a, V | E, {0, 16}},
    {0x5b, 0x5b, E, {0, 32}},
    {0x64, 0x66, E, {0, FULL}},
    {0x68, 0x68, E, {0, 0, 0, FULL}},
    {0x70, 0x73, E, {0, FULL}},
    {0x72, 0x72, E, {0, 0, FULL, FULL}},
    {0x75, 0x77, E, {0, FULL}},
    {0x78, 0x78, V | E, {0, 1}},
    {0x79, 0x79, V | E, {0, 2}},
    {0x7d, 0x7f, E, {0, FULL}},
    {0x83, 0x83, E, {0, FULL}},
    {0x8d, 0x8d, E, {0, FULL}},
    {0x8f, 0x8f, E, {0, FULL}},
    {0xb4, 0xb5, V | E, {0, FULL}},
    // Fused multiply-add: the odd opcodes from x9 on are the scalar forms.
    {0x96, 0x98, V | E, {0, FULL}},
    {0x99, 0x99, V | E, {0, WIDE}},
    {0x9a, 0x9a, V | E, {0, FULL}},
    {0x9b, 0x9b, V | E, {0, WIDE}},
    {0x9c, 0x9c, V | E, {0, FULL}},
    {0x9d, 0x9d, V | E, {0, WIDE}},
    {0x9e, 0x9e, V | E, {0, FULL}},
    {0x9f, 0x9f, V | E, {0, WIDE}},
    {0xa6, 0xa8, V | E, {0, FULL}},
    {0xa9, 0xa9, V | E, {0, WIDE}},
    {0xaa, 0xaa, V | E, {0, FULL}},
    {0xab, 0xab, V | E, {0, WIDE}},
    {0xac, 0xac, V | E, {0, FULL}},
    {0xad, 0xad, V | E, {0, WIDE}},
    {0xae, 0xae, V | E, {0, FULL}},
    {0xaf, 0xaf, V | E, {0, WIDE}},
    {0xb6, 0xb8, V | E, {0, FULL}},
    {0xb9, 0xb9, V | E, {0, WIDE}},
    {0xba, 0xba, V | E, {0, FULL}},
    {0xbb, 0xbb, V | E, {0, WIDE}},
    {0xbc, 0xbc, V | E, {0, FULL}},
    {0xbd, 0xbd, V | E, {0, WIDE}},
    {0xbe, 0xbe, V | E, {0, FULL}},
    {0xbf, 0xbf, V | E, {0, WIDE}},
    {0xc4, 0xc4, E, {0, FULL}},
    {0xc8, 0xcd, L, {16}},
    {0xcf, 0xcf, ALL, {0, FULL}},
    {0xdb, 0xdb, L | V, {0, FULL}},
    {0xdc, 0xdf, ALL, {0, FULL}},
    {0xf0, 0xf0, L, {GENERAL, GENERAL, 0, 1}},
    {0xf1, 0xf1, L, {GENERAL, GENERAL, 0, GENERAL}},
    {0xf6, 0xf6, L, {0, WIDE, WIDE}},
    {0xf9, 0xf9, L, {WIDE}},
    {0xf2, 0xf3, V, {WIDE}},
    {0xf5, 0xf5, V, {WIDE, 0, WIDE, WIDE}},
    {0xf6, 0xf6, V, {0, 0, 0, WIDE}},
    {0xf7, 0xf7, V, ANY_PREFIX(WIDE)},
};

static const struct opcode_range map_0f3a[] = {
    {0x00, 0x01, V | E, {0, FULL}},   {0x02, 0x02, V, {0, FULL}},
    {0x03, 0x03, E, {0, FULL}},       {0x04, 0x05, V | E, {0, FULL}},
    {0x06, 0x06, V, {0, FULL}},       {0x08, 0x09, ALL, {0, FULL}},
    {0x0a, 0x0a, ALL, {0, 4}},        {0x0b, 0x0b, ALL, {0, 8}},
    {0x0c, 0x0e, L | V, {0, FULL}},   {0x0f, 0x0f, ALL, {MMX, FULL}},
    {0x14, 0x14, ALL, {0, 1}},        {0x15, 0x15, ALL, {0, 2}},
    {0x16, 0x16, ALL, {0, WIDE}},     {0x17, 0x17, ALL, {0, 4}},
    {0x18, 0x19, V | E, {0, 16}},     {0x1a, 0x1b, E, {0, 32}},
    {0x1d, 0x1d, V | E, {0, HALF}},   {0x1e, 0x1f, E, {0, FULL}},
    {0x20, 0x20, ALL, {0, 1}},        {0x21, 0x21, ALL, {0, 4}},
    {0x22, 0x22, ALL, {0, WIDE}},     {0x23, 0x23, E, {0, FULL}},
    {0x25, 0x26, E, {0, FULL}},       {0x27, 0x27, E, {0, WIDE}},
    {0x38, 0x39, V | E, {0, 16}},     {0x3a, 0x3b, E, {0, 32}},
    {0x3e, 0x3f, E, {0, FULL}},       {0x40, 0x41, L | V, {0, FULL}},
    {0x42, 0x42, ALL, {0, FULL}},     {0x43, 0x43, E, {0, FULL}},
    {0x44, 0x44, ALL, {0, FULL}},     {0x46, 0x46, V, {0, FULL}},
    {0x4a, 0x4c, V, {0, FULL}},       {0x50, 0x50, E, {0, FULL}},
    {0x51, 0x51, E, {0, WIDE}},       {0x54, 0x54, E, {0, FULL}},
    {0x55, 0x55, E, {0, WIDE}},       {0x56, 0x56, E, {0, FULL}},
    {0x57, 0x57, E, {0, WIDE}},       {0x60, 0x63, L | V, {0, FULL}},
    {0x66, 0x66, E, {0, FULL}},       {0x67, 0x67, E, {0, WIDE}},
    {0x70, 0x73, E, {0, FULL}},       {0xcc, 0xcc, L, {16}},
    {0xce, 0xcf, ALL, {0, FULL}},     {0xdf, 0xdf, L | V, {0, FULL}},
    {0xf0, 0xf0, V, {0, 0, 0, WIDE}},
};

// D8 to DF by ModRM.reg. The environments (fldenv, fnsave) depend on the operating mode: unknown.
static const uint8_t x87_sizes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4}, {4, 0, 4, 4, 0, 2, 0, 2}, {4, 4, 4, 4, 4, 4, 4, 4}, {4, 4, 4, 4, 0, 10, 0, 10},
    {8, 8, 8, 8, 8, 8, 8, 8}, {8, 8, 8, 8, 0, 0, 0, 2}, {2, 2, 2, 2, 2, 2, 2, 2}, {2, 2, 2, 2, 10, 8, 10, 8},
};

// May run in a signal handler.
static unsigned one_byte_rule(const struct memprot_instruction *instruction) {
    uint8_t opcode = instruction->opcode;
    uint8_t reg = instruction->reg;
    unsigned by_low_bit = opcode & 1 ? GENERAL : 1;
    if (opcode < 0x40)
        return (opcode & 7) < 4 ? by_low_bit : UNKNOWN;
    if (opcode >= 0xd8 && opcode <= 0xdf)
        return x87_sizes[opcode - 0xd8][reg];
    switch (opcode) {
    case 0x63:
        return instruction->operand_size_prefix ? UNKNOWN : 4;
    case 0x69:
    case 0x6b:
        return GENERAL;
    case 0x80:
    case 0x81:
    case 0x84:
    case 0x85:
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
    case 0x8a:
    case 0x8b:
    case 0xc0:
    case 0xc1:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xf6:
    case 0xf7:
        return by_low_bit;
    case 0x83:
        return GENERAL;
    case 0x8c:
    case 0x8e:
        return 2;
    case 0x8f:
        return reg == 0 ? STACK : UNKNOWN;
    case 0xc6:
    case 0xc7:
        return reg == 0 ? by_low_bit : UNKNOWN;
    case 0xfe:
        return reg <= 1 ? by_low_bit : UNKNOWN;
    case 0xff:
        if (reg <= 1)
            return GENERAL;
        if (reg == 6)
            return STACK;
        // Vendors disagree about a near call or jump with prefix 66.
        return (reg == 2 || reg == 4) && !instruction->operand_size_prefix ? 8 : UNKNOWN;
    default:
        return UNKNOWN;
    }
}

// The opcodes of map 0F whose ModRM.reg is more opcode. May run in a signal handler.
static unsigned group_rule(const struct memprot_instruction *instruction) {
    bool bare = instruction->prefix == MEMPROT_PREFIX_NONE;
    uint8_t reg = instruction->reg;
    switch (instruction->opcode) {
    case 0x90:
    case 0x91:
        // kmov between a mask register and memory
        if (instruction->encoding != MEMPROT_VEX)
            return UNKNOWN;
        if (bare)
            return instruction->wide ? 8 : 2;
        return instruction->prefix == MEMPROT_PREFIX_66 ? (instruction->wide ? 4 : 1) : UNKNOWN;
    case 0xae:
        return bare && (reg == 2 || reg == 3) && instruction->encoding != MEMPROT_EVEX ? 4 : UNKNOWN;
    case 0xba:
        return instruction->encoding == MEMPROT_LEGACY && reg >= 4 ? GENERAL : UNKNOWN;
    case 0xc7:
        return instruction->encoding == MEMPROT_LEGACY && reg == 1 ? (instruction->wide ? 16 : 8) : UNKNOWN;
    default:
        return UNKNOWN;
    }
}

// May run in a signal handler.
unsigned memprot_opcode_size_rule(const struct memprot_instruction *instruction) {
    const struct opcode_range *ranges;
    size_t count;
    switch (instruction->map) {
    case MEMPROT_MAP_ONE_BYTE:
        return one_byte_rule(instruction);
    case MEMPROT_MAP_0F:
        ranges = map_0f;
        count = sizeof map_0f / sizeof *map_0f;
        break;
    case MEMPROT_MAP_0F38:
        ranges = map_0f38;
        count = sizeof map_0f38 / sizeof *map_0f38;
        break;
    case MEMPROT_MAP_0F3A:
        ranges = map_0f3a;
        count = sizeof map_0f3a / sizeof *map_0f3a;
        break;
    default:
        return UNKNOWN;
    }
    for (size_t i = 0; i < count; i++) {
        unsigned rule = ranges[i].sizes[instruction->prefix];
        if (rule != UNKNOWN && ranges[i].encodings & instruction->encoding && ranges[i].first <= instruction->opcode &&
            instruction->opcode <= ranges[i].last)
            return rule;
    }
    return instruction->map == MEMPROT_MAP_0F ? group_rule(instruction) : UNKNOWN;
}
