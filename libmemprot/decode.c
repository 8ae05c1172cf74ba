#include "decode.h"

#if !defined(__x86_64__)

// May run in a signal handler.
bool memprot_decode_operand(const void *code, size_t available, const ucontext_t *context, uintptr_t fault_address,
                            struct memprot_operand *ret) {
    (void)code;
    (void)available;
    (void)context;
    (void)fault_address;
    (void)ret;
    return false;
}

#else

#include "decode_mask.h"
#include "decode_size.h"

#include <string.h>

// The trap number of a page fault, the only one that comes with an address.
static const greg_t page_fault = 14;

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

struct decoder {
    const uint8_t *code;
    size_t available;
    size_t position;
    const ucontext_t *context;
    struct memprot_instruction instruction;
    // Upper bits of the numbers of the registers.
    uint8_t register_extension, index_extension, base_extension;
    bool repeat;
    bool address_size_prefix;
    struct memprot_operand operands[2];
    size_t operand_count;
};

// May run in a signal handler.
static uint64_t register_value(const struct decoder *decoder, unsigned number) {
    return (uint64_t)decoder->context->uc_mcontext.gregs[registers[number]];
}

// May run in a signal handler.
static uint64_t truncate_address(const struct decoder *decoder, uint64_t address) {
    return decoder->address_size_prefix ? (uint32_t)address : address;
}

// May run in a signal handler.
static bool take(struct decoder *decoder, void *ret, size_t size) {
    if (decoder->available - decoder->position < size)
        return false;
    memcpy(ret, decoder->code + decoder->position, size);
    decoder->position += size;
    return true;
}

// May run in a signal handler.
static void add_operand(struct decoder *decoder, uint64_t address, uint64_t size, bool in_segment) {
    bool known = !(in_segment && decoder->instruction.thread_segment);
    decoder->operands[decoder->operand_count++] =
        (struct memprot_operand){.address = known ? address : 0, .size = size, .known_address = known};
}

// Consumes the legacy prefixes and REX; *ret is the byte after them. May run in a signal handler.
static bool take_prefixes(struct decoder *decoder, uint8_t *rex, uint8_t *ret) {
    struct memprot_instruction *instruction = &decoder->instruction;
    *rex = 0;
    while (take(decoder, ret, 1)) {
        uint8_t previous_rex = *rex;
        *rex = 0; // A REX that is not the last prefix counts for nothing.
        switch (*ret) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0xf0:
            continue;
        case 0x64:
        case 0x65:
            instruction->thread_segment = true;
            continue;
        case 0x66:
            instruction->operand_size_prefix = true;
            continue;
        case 0x67:
            decoder->address_size_prefix = true;
            continue;
        case 0xf2:
            instruction->prefix = MEMPROT_PREFIX_F2;
            decoder->repeat = true;
            continue;
        case 0xf3:
            instruction->prefix = MEMPROT_PREFIX_F3;
            decoder->repeat = true;
            continue;
        default:
            break;
        }
        if ((*ret & 0xf0) == 0x40) {
            *rex = *ret;
            continue;
        }
        *rex = previous_rex;
        if (instruction->prefix == MEMPROT_PREFIX_NONE && instruction->operand_size_prefix)
            instruction->prefix = MEMPROT_PREFIX_66;
        return true;
    }
    return false;
}

// May run in a signal handler.
static bool take_legacy_opcode(struct decoder *decoder, uint8_t first, uint8_t rex) {
    struct memprot_instruction *instruction = &decoder->instruction;
    instruction->encoding = MEMPROT_LEGACY;
    instruction->vector_length = 16;
    instruction->wide = rex & 8;
    instruction->has_rex = rex;
    decoder->register_extension = rex & 4 ? 8 : 0;
    decoder->index_extension = rex & 2 ? 8 : 0;
    decoder->base_extension = rex & 1 ? 8 : 0;
    instruction->opcode = first;
    if (first != 0x0f)
        return true;
    instruction->map = MEMPROT_MAP_0F;
    if (!take(decoder, &instruction->opcode, 1))
        return false;
    if (instruction->opcode != 0x38 && instruction->opcode != 0x3a)
        return true;
    instruction->map = instruction->opcode == 0x38 ? MEMPROT_MAP_0F38 : MEMPROT_MAP_0F3A;
    return take(decoder, &instruction->opcode, 1);
}

// May run in a signal handler.
static bool take_vex_opcode(struct decoder *decoder, uint8_t first) {
    struct memprot_instruction *instruction = &decoder->instruction;
    uint8_t payload[2] = {0xe1, 0}; // The two-byte form stands for map 0F, no extensions, W 0.
    if (first == 0xc4 ? !take(decoder, payload, 2) : !take(decoder, &payload[1], 1))
        return false;
    instruction->encoding = MEMPROT_VEX;
    instruction->map = payload[0] & 0x1f;
    instruction->wide = first == 0xc4 && payload[1] & 0x80;
    instruction->prefix = payload[1] & 3;
    instruction->vector_length = payload[1] & 4 ? 32 : 16;
    decoder->register_extension = payload[first == 0xc4 ? 0 : 1] & 0x80 ? 0 : 8;
    decoder->index_extension = payload[0] & 0x40 ? 0 : 8;
    decoder->base_extension = payload[0] & 0x20 ? 0 : 8;
    return instruction->map >= MEMPROT_MAP_0F && instruction->map <= MEMPROT_MAP_0F3A &&
           take(decoder, &instruction->opcode, 1);
}

// May run in a signal handler.
static bool take_evex_opcode(struct decoder *decoder) {
    static const size_t vector_lengths[4] = {16, 32, 64, 0};
    struct memprot_instruction *instruction = &decoder->instruction;
    uint8_t payload[3];
    if (!take(decoder, payload, 3))
        return false;
    // Other values of these bits belong to later extensions, which this table does not describe.
    if (payload[0] & 8 || !(payload[1] & 4))
        return false;
    instruction->encoding = MEMPROT_EVEX;
    instruction->map = payload[0] & 7;
    instruction->wide = payload[1] & 0x80;
    instruction->prefix = payload[1] & 3;
    instruction->vector_length = vector_lengths[payload[2] >> 5 & 3];
    instruction->broadcast = payload[2] & 0x10;
    instruction->mask = payload[2] & 7;
    decoder->register_extension = (payload[0] & 0x80 ? 0 : 8) | (payload[0] & 0x10 ? 0 : 16);
    decoder->index_extension = payload[0] & 0x40 ? 0 : 8;
    decoder->base_extension = payload[0] & 0x20 ? 0 : 8;
    return instruction->map >= MEMPROT_MAP_0F && instruction->map <= MEMPROT_MAP_0F3A &&
           take(decoder, &instruction->opcode, 1);
}

// May run in a signal handler.
static bool take_opcode(struct decoder *decoder) {
    uint8_t first, rex;
    if (!take_prefixes(decoder, &rex, &first))
        return false;
    if (first == 0xc4 || first == 0xc5)
        return take_vex_opcode(decoder, first);
    if (first == 0x62)
        return take_evex_opcode(decoder);
    return take_legacy_opcode(decoder, first, rex);
}

// A displacement of one byte counts in units of the operand's size under EVEX. May run in a signal handler.
static bool take_displacement(struct decoder *decoder, unsigned mod, size_t size, uint64_t *ret) {
    if (mod == 1) {
        int8_t displacement;
        if (!take(decoder, &displacement, 1))
            return false;
        *ret = (uint64_t)(int64_t)displacement * (decoder->instruction.encoding == MEMPROT_EVEX ? size : 1);
        return true;
    }
    int32_t displacement;
    if (!take(decoder, &displacement, sizeof displacement))
        return false;
    *ret = (uint64_t)(int64_t)displacement;
    return true;
}

// May run in a signal handler.
static bool take_immediate(struct decoder *decoder, size_t size) {
    uint32_t bits = 0;
    if (size == 0)
        return true;
    if (!take(decoder, &bits, size))
        return false;
    unsigned unused = 32 - 8 * (unsigned)size;
    decoder->instruction.immediate = (int32_t)(bits << unused) >> unused;
    return true;
}

// Adds the operand that ModRM names. May run in a signal handler.
static bool add_modrm_operand(struct decoder *decoder) {
    struct memprot_instruction *instruction = &decoder->instruction;
    uint8_t modrm, sib;
    if (!take(decoder, &modrm, 1) || modrm >> 6 == 3)
        return false;
    unsigned mod = modrm >> 6, low = modrm & 7;
    instruction->reg = modrm >> 3 & 7;
    instruction->register_number = instruction->reg | decoder->register_extension;
    size_t size = memprot_operand_size(instruction);
    if (!size)
        return false;

    uint64_t address = 0, displacement = 0;
    bool has_displacement = mod != 0, has_base = true;
    unsigned base = low | decoder->base_extension;
    if (low == 4) {
        if (!take(decoder, &sib, 1))
            return false;
        base = (sib & 7) | decoder->base_extension;
        has_base = (sib & 7) != 5 || mod != 0;
        has_displacement |= !has_base;
        unsigned index = (sib >> 3 & 7) | decoder->index_extension;
        if (index != RSP)
            address += register_value(decoder, index) << (sib >> 6);
    }
    bool relative = low == 5 && mod == 0;
    if ((has_displacement || relative) && !take_displacement(decoder, mod, size, &displacement))
        return false;
    if (!take_immediate(decoder, memprot_immediate_size(instruction)))
        return false;
    if (relative)
        address = (uint64_t)decoder->context->uc_mcontext.gregs[REG_RIP] + decoder->position;
    else if (has_base)
        address += register_value(decoder, base);
    address += displacement;
    // pop computes its address after it has moved the stack pointer.
    bool pop = instruction->map == MEMPROT_MAP_ONE_BYTE && instruction->opcode == 0x8f;
    if (pop && !relative && has_base && base == RSP)
        address += size;
    add_operand(decoder, truncate_address(decoder, address), size, true);

    if (pop)
        add_operand(decoder, register_value(decoder, RSP), size, false);
    bool call_or_push = instruction->map == MEMPROT_MAP_ONE_BYTE && instruction->opcode == 0xff &&
                        (instruction->reg == 2 || instruction->reg == 6);
    if (call_or_push)
        add_operand(decoder, register_value(decoder, RSP) - size, size, false);
    return true;
}

// Adds one operand of a string instruction. May run in a signal handler.
static bool add_string_operand(struct decoder *decoder, unsigned pointer, uint64_t element, uint64_t count) {
    bool backwards = decoder->context->uc_mcontext.gregs[REG_EFL] & 0x400;
    uint64_t address = truncate_address(decoder, register_value(decoder, pointer)), size;
    if (__builtin_mul_overflow(element, count, &size))
        return false;
    if (backwards)
        address -= size - element;
    uint64_t end;
    if (__builtin_add_overflow(address, size - 1, &end))
        return false;
    // A segment prefix moves the source only.
    add_operand(decoder, address, size, pointer == RSI);
    return true;
}

// A4 to A7 and AA to AF but the immediate forms: movs, cmps, stos, lods, scas. May run in a signal handler.
static bool add_string_operands(struct decoder *decoder) {
    uint8_t opcode = decoder->instruction.opcode & 0xfe;
    uint64_t element = decoder->instruction.opcode & 1 ? memprot_general_size(&decoder->instruction) : 1;
    uint64_t count = 1;
    if (decoder->repeat)
        count = truncate_address(decoder, register_value(decoder, RCX));
    if (count == 0)
        return false;
    if (opcode == 0xa6 || opcode == 0xae)
        count = 1;
    bool source = opcode == 0xa4 || opcode == 0xa6 || opcode == 0xac;
    bool destination = opcode != 0xac;
    return (!source || add_string_operand(decoder, RSI, element, count)) &&
           (!destination || add_string_operand(decoder, RDI, element, count));
}

// A0 to A3: mov between the accumulator and an address in the instruction. May run in a signal handler.
static bool add_absolute_operand(struct decoder *decoder) {
    uint64_t address = 0;
    if (!take(decoder, &address, decoder->address_size_prefix ? 4 : 8))
        return false;
    add_operand(decoder, address, decoder->instruction.opcode & 1 ? memprot_general_size(&decoder->instruction) : 1,
                true);
    return true;
}

// May run in a signal handler.
static bool add_one_byte_operands(struct decoder *decoder) {
    uint8_t opcode = decoder->instruction.opcode;
    bool push = (opcode >= 0x50 && opcode <= 0x57) || opcode == 0x68 || opcode == 0x6a || opcode == 0xe8;
    bool pop = (opcode >= 0x58 && opcode <= 0x5f) || opcode == 0xc2 || opcode == 0xc3;
    if (push || pop) {
        if (decoder->instruction.operand_size_prefix)
            return false;
        decoder->instruction.register_number = (opcode & 7) | decoder->base_extension;
        add_operand(decoder, register_value(decoder, RSP) - (push ? 8 : 0), 8, false);
        return take_immediate(decoder, memprot_immediate_size(&decoder->instruction));
    }
    if (opcode >= 0xa0 && opcode <= 0xa3)
        return add_absolute_operand(decoder);
    if (opcode >= 0xa4 && opcode <= 0xaf && opcode != 0xa8 && opcode != 0xa9)
        return add_string_operands(decoder);
    return add_modrm_operand(decoder);
}

// May run in a signal handler.
static bool select_operand(const struct decoder *decoder, uintptr_t fault_address, struct memprot_operand *ret) {
    const struct memprot_operand *unknown = NULL;
    for (size_t i = 0; i < decoder->operand_count; i++) {
        const struct memprot_operand *operand = &decoder->operands[i];
        if (!operand->known_address)
            unknown = operand;
        else if (fault_address - operand->address < operand->size) {
            *ret = *operand;
            return true;
        }
    }
    bool alone = decoder->operand_count == 1 && decoder->context->uc_mcontext.gregs[REG_TRAPNO] != page_fault;
    const struct memprot_operand *rest = unknown ? unknown : alone ? &decoder->operands[0] : NULL;
    if (!rest)
        return false;
    *ret = *rest;
    return true;
}

// May run in a signal handler.
bool memprot_decode_operand(const void *code, size_t available, const ucontext_t *context, uintptr_t fault_address,
                            struct memprot_operand *ret) {
    struct decoder decoder = {
        .code = code,
        .available = available < MEMPROT_INSTRUCTION_MAX ? available : MEMPROT_INSTRUCTION_MAX,
        .context = context,
    };
    if (!take_opcode(&decoder))
        return false;
    bool one_byte = decoder.instruction.map == MEMPROT_MAP_ONE_BYTE;
    if (!(one_byte ? add_one_byte_operands(&decoder) : add_modrm_operand(&decoder)))
        return false;
    if (decoder.instruction.mask &&
        !memprot_decode_mask(context, &decoder.instruction, &decoder.operands[0].address, &decoder.operands[0].size))
        return false;
    if (!select_operand(&decoder, fault_address, ret))
        return false;
    ret->instruction = decoder.instruction;
    ret->instruction.length = decoder.position;
    return true;
}

#endif
