#include "decode_mask.h"

#include "vector_register.h"

// The size of an element; 0 for what is no plain move. May run in a signal handler.
static size_t element_size(const struct memprot_instruction *instruction) {
    size_t by_prefix = instruction->prefix == MEMPROT_PREFIX_NONE || instruction->prefix == MEMPROT_PREFIX_F3 ? 4 : 8;
    if (instruction->map != MEMPROT_MAP_0F)
        return 0;
    switch (instruction->opcode) {
    case 0x10: // movups, movupd, movss, movsd
    case 0x11:
    case 0x28: // movaps, movapd
    case 0x29:
        return by_prefix;
    case 0x6f: // movdqa32, movdqa64, movdqu8 to movdqu64
    case 0x7f:
        if (instruction->prefix == MEMPROT_PREFIX_F2)
            return instruction->wide ? 2 : 1;
        return instruction->wide ? 8 : 4;
    default:
        return 0;
    }
}

// May run in a signal handler.
bool memprot_decode_mask(const ucontext_t *context, struct memprot_instruction *instruction, uintptr_t *address,
                         size_t *size) {
    size_t element = element_size(instruction);
    uint64_t mask;
    if (!element || !memprot_mask_register_read(context, instruction->mask, &mask))
        return false;
    size_t elements = *size / element;
    if (elements < 64)
        mask &= ((uint64_t)1 << elements) - 1;
    if (!mask)
        return false;
    size_t first = (size_t)__builtin_ctzll(mask), stop = 64 - (size_t)__builtin_clzll(mask);
    if ((size_t)__builtin_popcountll(mask) != stop - first)
        return false;
    instruction->skipped = first * element;
    *address += first * element;
    *size = (stop - first) * element;
    return true;
}
