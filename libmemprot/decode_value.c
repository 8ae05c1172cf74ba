#include "decode_value.h"

#if !defined(__x86_64__)

// May run in a signal handler.
size_t memprot_decode_value(const struct memprot_operand *operand, const ucontext_t *context, bool readable,
                            uint8_t *ret) {
    (void)operand, (void)context, (void)readable, (void)ret;
    return 0;
}

#else

#include "access.h"

#include <string.h>

enum { RAX = 0, RSP = 4 };

enum { CARRY = 1, PARITY = 4, ZERO = 0x40, SIGN = 0x80, DIRECTION = 0x400, OVERFLOW = 0x800 };

struct store {
    const struct memprot_operand *operand;
    const struct memprot_instruction *instruction;
    const ucontext_t *context;
    bool readable;
    uint8_t *value;
};

// ---- where values come from

// May run in a signal handler.
static uint64_t general_register(const struct store *store, unsigned number) {
    static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return (uint64_t)store->context->uc_mcontext.gregs[registers[number & 15]];
}

// The register that ModRM names beside the operand. May run in a signal handler.
static uint64_t named_register(const struct store *store, size_t size) {
    unsigned number = store->instruction->register_number;
    bool second_byte = size == 1 && !store->instruction->has_rex && number >= 4 && number < 8;
    return second_byte ? general_register(store, number - 4) >> 8 : general_register(store, number);
}

// May run in a signal handler.
static bool read_memory(uintptr_t address, size_t size, void *ret) {
    return memprot_access_copy(ret, (const void *)address, size) == 0;
}

// May run in a signal handler.
static bool read_target(const struct store *store, uint64_t *ret) {
    *ret = 0;
    return store->readable && store->operand->known_address && store->operand->size <= sizeof *ret &&
           read_memory(store->operand->address, store->operand->size, ret);
}

// May run in a signal handler.
static size_t give(const struct store *store, uint64_t value, size_t size) {
    memcpy(store->value, &value, size);
    return size;
}

// May run in a signal handler.
static size_t give_vector(const struct store *store, size_t skipped) {
    skipped += store->instruction->skipped;
    uint8_t whole[MEMPROT_VECTOR_MAX];
    size_t size = store->operand->size;
    if (skipped + size > sizeof whole ||
        !memprot_vector_register_read(store->context, store->instruction->register_number, skipped + size, whole))
        return 0;
    memcpy(store->value, whole + skipped, size);
    return size;
}

// ---- instructions

// May run in a signal handler.
static size_t give_string(const struct store *store) {
    size_t size = store->instruction->opcode & 1 ? memprot_general_size(store->instruction) : 1;
    if (store->instruction->opcode >= 0xaa)
        return give(store, general_register(store, RAX), size);
    uintptr_t source = (uintptr_t)store->context->uc_mcontext.gregs[REG_RSI];
    bool backwards = store->context->uc_mcontext.gregs[REG_EFL] & DIRECTION;
    size_t all = store->operand->size < MEMPROT_VALUE_MAX ? store->operand->size : MEMPROT_VALUE_MAX;
    if (store->instruction->thread_segment)
        return 0;
    if (!backwards && read_memory(source, all, store->value))
        return all;
    return read_memory(source, size, store->value) ? size : 0;
}

enum operation { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

// May run in a signal handler.
static size_t give_result(const struct store *store, unsigned operation, uint64_t second) {
    uint64_t first, carry = store->context->uc_mcontext.gregs[REG_EFL] & CARRY;
    if (!read_target(store, &first))
        return 0;
    switch ((enum operation)operation) {
    case ADD:
        first += second;
        break;
    case OR:
        first |= second;
        break;
    case ADC:
        first += second + carry;
        break;
    case SBB:
        first -= second + carry;
        break;
    case AND:
        first &= second;
        break;
    case SUB:
        first -= second;
        break;
    case XOR:
        first ^= second;
        break;
    case CMP:
        return 0;
    }
    return give(store, first, store->operand->size);
}

// May run in a signal handler.
static size_t give_from_one_byte_opcode(const struct store *store) {
    const struct memprot_instruction *instruction = store->instruction;
    uint8_t opcode = instruction->opcode;
    size_t size = store->operand->size;
    if (opcode < 0x40)
        return give_result(store, opcode >> 3, named_register(store, size));
    if (opcode >= 0x50 && opcode <= 0x57)
        return give(store, general_register(store, instruction->register_number), size);
    switch (opcode) {
    case 0x68:
    case 0x6a:
    case 0xc6:
    case 0xc7:
        return give(store, (uint64_t)instruction->immediate, size);
    case 0x80:
    case 0x81:
    case 0x83:
        return give_result(store, instruction->reg, (uint64_t)instruction->immediate);
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:
        return give(store, named_register(store, size), size);
    case 0x8f: {
        uint64_t top;
        return read_memory(general_register(store, RSP), size, &top) ? give(store, top, size) : 0;
    }
    case 0xa2:
    case 0xa3:
        return give(store, general_register(store, RAX), size);
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab:
        return give_string(store);
    case 0xe8:
        return give(store, (uint64_t)store->context->uc_mcontext.gregs[REG_RIP] + instruction->length, size);
    case 0xf6:
    case 0xf7: {
        uint64_t before;
        if ((instruction->reg != 2 && instruction->reg != 3) || !read_target(store, &before))
            return 0;
        return give(store, instruction->reg == 2 ? ~before : -before, size);
    }
    case 0xfe:
    case 0xff:
        return instruction->reg <= 1 ? give_result(store, instruction->reg ? SUB : ADD, 1) : 0;
    default:
        return 0;
    }
}

// May run in a signal handler.
static size_t give_condition(const struct store *store) {
    greg_t flags = store->context->uc_mcontext.gregs[REG_EFL];
    bool sign = flags & SIGN, overflow = flags & OVERFLOW, zero = flags & ZERO, carry = flags & CARRY;
    const bool holds[8] = {
        overflow, carry, zero, carry || zero, sign, flags & PARITY, sign != overflow, zero || sign != overflow};
    uint8_t condition = store->instruction->opcode & 15;
    return give(store, holds[condition >> 1] != (condition & 1), 1);
}

// cmpxchg writes in any case: back what was there, where the comparison fails. May run in a signal handler.
static size_t give_exchange(const struct store *store) {
    size_t size = store->operand->size;
    uint64_t before, expected = general_register(store, RAX);
    if (!read_target(store, &before))
        return 0;
    return give(store, memcmp(&before, &expected, size) == 0 ? named_register(store, size) : before, size);
}

// May run in a signal handler.
static size_t give_mmx(const struct store *store) {
    if (store->instruction->encoding != MEMPROT_LEGACY || !store->context->uc_mcontext.fpregs)
        return 0;
    memcpy(store->value, &store->context->uc_mcontext.fpregs->_st[store->instruction->reg], store->operand->size);
    return store->operand->size;
}

// May run in a signal handler.
static size_t give_from_0f(const struct store *store) {
    const struct memprot_instruction *instruction = store->instruction;
    bool bare = instruction->prefix == MEMPROT_PREFIX_NONE, legacy = instruction->encoding == MEMPROT_LEGACY;
    size_t size = store->operand->size;
    if (instruction->opcode >= 0x90 && instruction->opcode <= 0x9f)
        return legacy ? give_condition(store) : 0;
    switch (instruction->opcode) {
    case 0x11:
    case 0x13:
    case 0x29:
    case 0x2b:
    case 0xd6:
        return give_vector(store, 0);
    case 0x17:
        return give_vector(store, 8);
    case 0x7e:
    case 0x7f:
    case 0xe7:
        return bare ? give_mmx(store) : give_vector(store, 0);
    case 0xb0:
    case 0xb1:
        return legacy ? give_exchange(store) : 0;
    case 0xc0:
    case 0xc1:
        return legacy ? give_result(store, ADD, named_register(store, size)) : 0;
    case 0xc3:
        return legacy ? give(store, named_register(store, size), size) : 0;
    default:
        return 0;
    }
}

// May run in a signal handler.
static size_t give_from_0f38(const struct store *store) {
    const struct memprot_instruction *instruction = store->instruction;
    size_t size = store->operand->size;
    if (instruction->encoding != MEMPROT_LEGACY)
        return 0;
    if (instruction->opcode == 0xf9)
        return give(store, named_register(store, size), size);
    if (instruction->opcode != 0xf1 || instruction->prefix == MEMPROT_PREFIX_F2)
        return 0;
    return give(store, __builtin_bswap64(named_register(store, size)) >> (64 - 8 * size), size);
}

// Parts of a vector, which the immediate chooses. May run in a signal handler.
static size_t give_from_0f3a(const struct store *store) {
    const struct memprot_instruction *instruction = store->instruction;
    size_t size = store->operand->size, vector = instruction->vector_length;
    uint8_t opcode = instruction->opcode;
    bool part =
        (opcode >= 0x14 && opcode <= 0x17) || opcode == 0x19 || opcode == 0x39 || opcode == 0x1b || opcode == 0x3b;
    if (!part || size == 0 || vector < size)
        return 0;
    return give_vector(store, ((size_t)instruction->immediate & (vector / size - 1)) * size);
}

// May run in a signal handler.
size_t memprot_decode_value(const struct memprot_operand *operand, const ucontext_t *context, bool readable,
                            uint8_t *ret) {
    struct store store = {operand, &operand->instruction, context, readable, ret};
    switch (operand->instruction.map) {
    case MEMPROT_MAP_ONE_BYTE:
        return give_from_one_byte_opcode(&store);
    case MEMPROT_MAP_0F:
        return give_from_0f(&store);
    case MEMPROT_MAP_0F38:
        return give_from_0f38(&store);
    case MEMPROT_MAP_0F3A:
        return give_from_0f3a(&store);
    }
    return 0;
}

#endif
