#include "call_site.h"

#include "access.h"
#include "backtrace.h"
#include "context.h"
#include "own_maps.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// After a jump the frame it was made from is searched for a return address, as many words far.
enum { WORDS_SEARCHED = 64 };

// May run in a signal handler.
static bool load_word(uintptr_t address, uintptr_t *ret) {
    return memprot_access_copy(ret, (void *)address, sizeof *ret) == 0;
}

// May run in a signal handler.
static bool is_in_code(uintptr_t address) {
    struct memprot_mapping found;
    return memprot_own_maps_find(address, &found, NULL, 0) == 1 && found.start <= address && (found.prot & PROT_EXEC);
}

#if defined(__x86_64__)

enum { RSP = 4, RBP = 5, LONGEST = 9, SHSTK_STATUS = 0x5005, SHSTK_ENABLED = 1 };

static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// A call instruction and the registers it found.
struct call {
    const ucontext_t *context;
    uintptr_t back;
    uintptr_t stack; // the stack pointer before it
    const uint8_t *code;
    size_t length, at;
    uint8_t rex;
};

// May run in a signal handler.
static uintptr_t register_of(const struct call *call, unsigned number) {
    return number == RSP ? call->stack : (uintptr_t)call->context->uc_mcontext.gregs[registers[number]];
}

// The displacement is the last thing in the instruction. May run in a signal handler.
static bool take_displacement(struct call *call, unsigned mod, bool wide, uintptr_t *address) {
    size_t size = wide || mod == 2 ? 4 : mod == 1 ? 1 : 0;
    int32_t displacement = 0;
    if (call->length - call->at != size)
        return false;
    if (size == 4)
        memcpy(&displacement, call->code + call->at, sizeof displacement);
    else if (size == 1)
        displacement = (int8_t)call->code[call->at];
    *address += (uintptr_t)(intptr_t)displacement;
    return true;
}

// call through a register, or through a word in memory. Intel SDM volume 2, CALL and table 2-2. May run in a signal
// handler.
static bool target_of_indirect(struct call *call, uintptr_t *ret) {
    uint8_t modrm = call->code[call->at++];
    unsigned mod = modrm >> 6, low = modrm & 7, extension = call->rex & 1 ? 8 : 0;
    if ((modrm >> 3 & 7) != 2)
        return false;
    if (mod == 3) {
        *ret = register_of(call, low | extension);
        return call->at == call->length;
    }
    uintptr_t address = 0;
    bool wide = mod == 0 && low == 5;
    if (low == 4) {
        if (call->at == call->length)
            return false;
        uint8_t sib = call->code[call->at++];
        unsigned index = (sib >> 3 & 7) | (call->rex & 2 ? 8 : 0);
        wide = (sib & 7) == 5 && mod == 0;
        if (index != RSP)
            address += register_of(call, index) << (sib >> 6);
        if (!wide)
            address += register_of(call, (sib & 7) | extension);
    } else {
        address = wide ? call->back : register_of(call, low | extension);
    }
    if (!take_displacement(call, mod, wide, &address))
        return false;
    if (!load_word(address, ret))
        *ret = 0;
    return true;
}

// Whether these bytes, up to their end, are one call instruction, and what it calls, as far as registers and memory are
// still what they were. May run in a signal handler.
static bool target_of(struct call *call, uintptr_t *ret) {
    static const uint8_t prefixes[] = {0x2e, 0x3e, 0xf2}; // no effect, notrack, bnd
    if (memchr(prefixes, call->code[0], sizeof prefixes))
        call->at++;
    if (call->length - call->at >= 3 && (call->code[call->at] & 0xf0) == 0x40)
        call->rex = call->code[call->at++];
    if (call->length - call->at == 5 && call->code[call->at] == 0xe8) {
        int32_t distance;
        memcpy(&distance, call->code + call->at + 1, sizeof distance);
        *ret = call->back + (uintptr_t)(intptr_t)distance;
        return true;
    }
    if (call->length - call->at < 2 || call->code[call->at++] != 0xff)
        return false;
    return target_of_indirect(call, ret);
}

// Whether a call ends at @p back, to @p target if one is wanted. May run in a signal handler.
static bool is_behind_call(const ucontext_t *context, uintptr_t back, uintptr_t stack, const uintptr_t *target) {
    uint8_t code[LONGEST];
    for (size_t length = 2; length <= LONGEST; length++) {
        struct call call = {.context = context, .back = back, .stack = stack, .code = code, .length = length};
        uintptr_t found = 0;
        if (memprot_access_copy(code, (void *)(back - length), length) > 0)
            return false;
        if (target_of(&call, &found) && (!target || found == *target))
            return true;
    }
    return false;
}

// May run in a signal handler.
bool memprot_call_site_find(const ucontext_t *context, struct memprot_call_site *ret) {
    const greg_t *gregs = context->uc_mcontext.gregs;
    uintptr_t stack = memprot_context_stack(context), target = (uintptr_t)gregs[REG_RIP];
    *ret = (struct memprot_call_site){.stack = stack + sizeof stack, .frame = (uintptr_t)gregs[REG_RBP]};
    return load_word(stack, &ret->back) && is_in_code(ret->back - 1) &&
           is_behind_call(context, ret->back, ret->stack, &target);
}

// May run in a signal handler.
bool memprot_call_site_may_return(void) {
    unsigned long features = 0;
    return syscall(SYS_arch_prctl, SHSTK_STATUS, &features) < 0 || !(features & SHSTK_ENABLED);
}

// May run in a signal handler.
void memprot_call_site_return(ucontext_t *context, const struct memprot_call_site *site) {
    greg_t *gregs = context->uc_mcontext.gregs;
    gregs[REG_RIP] = (greg_t)site->back;
    gregs[REG_RSP] = (greg_t)site->stack;
    gregs[REG_RAX] = gregs[REG_RDX] = 0;
    if (context->uc_mcontext.fpregs) // where functions return floating-point numbers
        memset(&context->uc_mcontext.fpregs->_xmm[0], 0, sizeof context->uc_mcontext.fpregs->_xmm[0]);
}

// May run in a signal handler.
static bool is_return_address(const ucontext_t *context, uintptr_t slot, struct memprot_call_site *ret) {
    ret->stack = slot + sizeof slot;
    return load_word(slot, &ret->back) && is_in_code(ret->back - 1) &&
           is_behind_call(context, ret->back, ret->stack, NULL);
}

// May run in a signal handler.
bool memprot_call_site_find_caller(const ucontext_t *context, struct memprot_call_site *ret) {
    uintptr_t stack = (uintptr_t)context->uc_mcontext.gregs[REG_RSP], frame;
    *ret = (struct memprot_call_site){.frame = (uintptr_t)context->uc_mcontext.gregs[REG_RBP]};
    if (is_return_address(context, stack, ret))
        return true;
    uintptr_t base = ret->frame;
    if (base < stack || base % sizeof base != 0 || !load_word(base, &frame) ||
        !is_return_address(context, base + sizeof base, ret))
        return false;
    ret->frame = frame;
    return true;
}

// Where a jump was made from is not known. Whoever called that function is, by its frame pointer if it has one, or else
// by the first return address on the stack. May run in a signal handler.
static bool search_caller(const ucontext_t *context, struct memprot_call_site *ret) {
    if (memprot_call_site_find_caller(context, ret))
        return true;
    uintptr_t stack = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
    for (int word = 1; word < WORDS_SEARCHED; word++) {
        if (is_return_address(context, stack + (uintptr_t)word * sizeof stack, ret))
            return true;
    }
    return false;
}

// May run in a signal handler.
void memprot_call_site_take(const ucontext_t *context, struct memprot_call_site *ret) {
    const greg_t *gregs = context->uc_mcontext.gregs;
    *ret = (struct memprot_call_site){(uintptr_t)gregs[REG_RIP], (uintptr_t)gregs[REG_RSP], (uintptr_t)gregs[REG_RBP]};
}

// May run in a signal handler.
void memprot_call_site_pretend(ucontext_t *context, const struct memprot_call_site *site) {
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)site->back;
    context->uc_mcontext.gregs[REG_RSP] = (greg_t)site->stack;
    context->uc_mcontext.gregs[REG_RBP] = (greg_t)site->frame;
}

#elif defined(__aarch64__)

enum { LINK = 30, FRAME = 29 };

// Arm ARM C6.2, BL and BLR. May run in a signal handler.
static bool target_of(const ucontext_t *context, uintptr_t back, uintptr_t *ret) {
    uint32_t code;
    if (memprot_access_copy(&code, (void *)(back - sizeof code), sizeof code) > 0)
        return false;
    unsigned through = code >> 5 & 31;
    if ((code & 0xfc000000) == 0x94000000)
        *ret = back - sizeof code + (uintptr_t)((intptr_t)((int32_t)(code << 6) >> 6) * 4);
    else if ((code & 0xfffffc1f) == 0xd63f0000 && through < LINK)
        *ret = context->uc_mcontext.regs[through];
    else
        return false;
    return true;
}

// May run in a signal handler.
bool memprot_call_site_find(const ucontext_t *context, struct memprot_call_site *ret) {
    uintptr_t target;
    *ret = (struct memprot_call_site){.back = context->uc_mcontext.regs[LINK],
                                      .stack = context->uc_mcontext.sp,
                                      .frame = context->uc_mcontext.regs[FRAME]};
    return is_in_code(ret->back - 4) && target_of(context, ret->back, &target) && target == context->uc_mcontext.pc;
}

// May run in a signal handler.
bool memprot_call_site_may_return(void) { return true; }

// May run in a signal handler.
void memprot_call_site_return(ucontext_t *context, const struct memprot_call_site *site) {
    context->uc_mcontext.pc = site->back;
    context->uc_mcontext.regs[0] = context->uc_mcontext.regs[1] = 0;
}

// By the link register, or else by the frame record. May run in a signal handler.
bool memprot_call_site_find_caller(const ucontext_t *context, struct memprot_call_site *ret) {
    uintptr_t target, frame = context->uc_mcontext.regs[FRAME];
    *ret = (struct memprot_call_site){
        .back = context->uc_mcontext.regs[LINK], .stack = context->uc_mcontext.sp, .frame = frame};
    if (is_in_code(ret->back - 4) && target_of(context, ret->back, &target))
        return true;
    ret->stack = frame + 2 * sizeof frame;
    return load_word(frame, &ret->frame) && load_word(frame + sizeof frame, &ret->back) && is_in_code(ret->back - 4);
}

// May run in a signal handler.
static bool search_caller(const ucontext_t *context, struct memprot_call_site *ret) {
    return memprot_call_site_find_caller(context, ret);
}

// May run in a signal handler.
void memprot_call_site_take(const ucontext_t *context, struct memprot_call_site *ret) {
    *ret =
        (struct memprot_call_site){context->uc_mcontext.pc, context->uc_mcontext.sp, context->uc_mcontext.regs[FRAME]};
}

// May run in a signal handler.
void memprot_call_site_pretend(ucontext_t *context, const struct memprot_call_site *site) {
    context->uc_mcontext.pc = site->back;
    context->uc_mcontext.sp = site->stack;
    context->uc_mcontext.regs[FRAME] = site->frame;
}

#endif

// The unwinder knows nothing about what is no code, and would read it. So it is shown the caller, as if control were
// still in the call. May run in a signal handler.
uint32_t memprot_call_site_backtrace(ucontext_t *context, uintptr_t *pcs, uint32_t capacity) {
    struct memprot_call_site start, site;
    if (!memprot_call_site_find(context, &site) && !search_caller(context, &site))
        return 0;
    memprot_call_site_take(context, &start);
    struct memprot_call_site call = {site.back - 1, site.stack, site.frame};
    memprot_call_site_pretend(context, &call);
    uint32_t count = memprot_backtrace(call.back, pcs, NULL, capacity, NULL);
    memprot_call_site_pretend(context, &start);
    pcs[0] = site.back;
    return count;
}
