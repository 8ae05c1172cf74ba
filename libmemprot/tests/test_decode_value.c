// Executes real stores against a page that may only be read, then lets them happen: what they have written is compared
// with what the handler said they would.
#include "check.h"
#include "decode_value.h"

#if !defined(__x86_64__)

int main(void) { return TEST_SKIPPED; }

#else

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, AT = 1024 };

enum needs { ANY_CPU, AVX, AVX2, AVX512 };

static uint8_t *page;

static struct {
    bool decoded;
    uintptr_t address;
    size_t operand_size, size;
    uint8_t value[MEMPROT_VALUE_MAX];
} seen;

static void on_fault(int signo, siginfo_t *info, void *context) {
    (void)signo;
    const ucontext_t *saved = context;
    struct memprot_operand operand;
    seen.decoded = memprot_decode_operand((const void *)saved->uc_mcontext.gregs[REG_RIP], MEMPROT_INSTRUCTION_MAX,
                                          saved, (uintptr_t)info->si_addr, &operand);
    if (seen.decoded) {
        seen.address = operand.address;
        seen.operand_size = operand.size;
        seen.size = memprot_decode_value(&operand, saved, true, seen.value);
    }
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) < 0)
        abort();
}

// Registers hold what no other register holds: rax to r15 are made of their number, vectors of theirs.
#define FILL_VECTORS                                                                                                   \
    "movdqu (%%rsi), %%xmm0; movdqu 16(%%rsi), %%xmm1; movdqu 32(%%rsi), %%xmm7; movdqu 48(%%rsi), %%xmm15;"

#define STORES(X)                                                                                                      \
    X(mov_1, "movb %%al, (%%rdi)", ANY_CPU, 1)                                                                         \
    X(mov_second_byte, "movb %%ah, (%%rdi)", ANY_CPU, 1)                                                               \
    X(mov_1_new, "movb %%r9b, (%%rdi)", ANY_CPU, 1)                                                                    \
    X(mov_1_rex, "movb %%sil, (%%rdi)", ANY_CPU, 1)                                                                    \
    X(mov_2, "movw %%dx, 3(%%rdi)", ANY_CPU, 2)                                                                        \
    X(mov_4, "movl %%r8d, (%%rdi)", ANY_CPU, 4)                                                                        \
    X(mov_8, "movq %%r10, 0x11(%%rdi)", ANY_CPU, 8)                                                                    \
    X(mov_immediate_1, "movb $0x91, (%%rdi)", ANY_CPU, 1)                                                              \
    X(mov_immediate_2, "movw $0x9234, (%%rdi)", ANY_CPU, 2)                                                            \
    X(mov_immediate_4, "movl $0x92345678, (%%rdi)", ANY_CPU, 4)                                                        \
    X(mov_negative, "movq $-2, 0x34(%%rdi)", ANY_CPU, 8)                                                               \
    X(add_8, "addq %%rax, (%%rdi)", ANY_CPU, 8)                                                                        \
    X(add_immediate, "addw $0x1234, (%%rdi)", ANY_CPU, 2)                                                              \
    X(add_small, "addq $-3, (%%rdi)", ANY_CPU, 8)                                                                      \
    X(adc_carry, "stc; adcl %%edx, (%%rdi)", ANY_CPU, 4)                                                               \
    X(adc_no_carry, "clc; adcl %%edx, (%%rdi)", ANY_CPU, 4)                                                            \
    X(sbb_carry, "stc; sbbl $7, (%%rdi)", ANY_CPU, 4)                                                                  \
    X(and_1, "andb %%ch, (%%rdi)", ANY_CPU, 1)                                                                         \
    X(or_4, "orl %%r11d, (%%rdi)", ANY_CPU, 4)                                                                         \
    X(xor_8, "xorq %%rdx, (%%rdi)", ANY_CPU, 8)                                                                        \
    X(sub_2, "subw %%ax, (%%rdi)", ANY_CPU, 2)                                                                         \
    X(increment, "incb (%%rdi)", ANY_CPU, 1)                                                                           \
    X(decrement, "decq (%%rdi)", ANY_CPU, 8)                                                                           \
    X(negate, "negl (%%rdi)", ANY_CPU, 4)                                                                              \
    X(complement, "notw (%%rdi)", ANY_CPU, 2)                                                                          \
    X(shift, "shlq $3, (%%rdi)", ANY_CPU, 0)                                                                           \
    X(set_zero, "cmp %%eax, %%eax; setz (%%rdi)", ANY_CPU, 1)                                                          \
    X(set_not_zero, "cmp %%eax, %%eax; setnz (%%rdi)", ANY_CPU, 1)                                                     \
    X(set_less, "cmpq $-1, %%rcx; setl (%%rdi)", ANY_CPU, 1)                                                           \
    X(set_greater, "cmpq $-1, %%rcx; setg (%%rdi)", ANY_CPU, 1)                                                        \
    X(set_above, "cmpq $-1, %%rcx; seta (%%rdi)", ANY_CPU, 1)                                                          \
    X(set_below, "cmpq $-1, %%rcx; setb (%%rdi)", ANY_CPU, 1)                                                          \
    X(set_parity, "cmpq $3, %%rcx; setp (%%rdi)", ANY_CPU, 1)                                                          \
    X(set_sign, "cmpq $-1, %%rcx; setns (%%rdi)", ANY_CPU, 1)                                                          \
    X(exchange, "xchgl %%eax, (%%rdi)", ANY_CPU, 4)                                                                    \
    X(xadd, "lock xaddq %%rax, (%%rdi)", ANY_CPU, 8)                                                                   \
    X(cmpxchg_fails, "lock cmpxchgw %%cx, (%%rdi)", ANY_CPU, 2)                                                        \
    X(cmpxchg_holds, "movl (%%rdi), %%eax; lock cmpxchgl %%ecx, (%%rdi)", ANY_CPU, 4)                                  \
    X(movnti, "movntiq %%rax, (%%rdi)", ANY_CPU, 8)                                                                    \
    X(stosl, "stosl", ANY_CPU, 4)                                                                                      \
    X(movsq, "movsq", ANY_CPU, 8)                                                                                      \
    X(rep_movsb, "movl $40, %%ecx; rep movsb", ANY_CPU, 40)                                                            \
    X(pop, "pushq %%rdx; popq (%%rdi)", ANY_CPU, 8)                                                                    \
    X(push, "xchgq %%rdi, %%rsp; addq $64, %%rsp; pushq %%r9; xchgq %%rdi, %%rsp", ANY_CPU, 8)                         \
    X(push_immediate, "xchgq %%rdi, %%rsp; addq $64, %%rsp; pushq $-5; xchgq %%rdi, %%rsp", ANY_CPU, 8)                \
    X(call, "xchgq %%rdi, %%rsp; addq $64, %%rsp; call 1f; 1: xchgq %%rdi, %%rsp", ANY_CPU, 8)                         \
    X(movss, "movss %%xmm1, (%%rdi)", ANY_CPU, 4)                                                                      \
    X(movsd, "movsd %%xmm15, 8(%%rdi)", ANY_CPU, 8)                                                                    \
    X(movups, "movups %%xmm7, 1(%%rdi)", ANY_CPU, 16)                                                                  \
    X(movaps, "movaps %%xmm15, (%%rdi)", ANY_CPU, 16)                                                                  \
    X(movdqa, "movdqa %%xmm1, (%%rdi)", ANY_CPU, 16)                                                                   \
    X(movntdq, "movntdq %%xmm1, (%%rdi)", ANY_CPU, 16)                                                                 \
    X(movq, "movq %%xmm1, (%%rdi)", ANY_CPU, 8)                                                                        \
    X(movd, "movd %%xmm7, (%%rdi)", ANY_CPU, 4)                                                                        \
    X(movhps, "movhps %%xmm1, (%%rdi)", ANY_CPU, 8)                                                                    \
    X(movlpd, "movlpd %%xmm1, (%%rdi)", ANY_CPU, 8)                                                                    \
    X(mmx, "movq (%%rsi), %%mm3; movq %%mm3, (%%rdi); emms", ANY_CPU, 8)                                               \
    X(fstp, "fninit; fld1; fstpl (%%rdi)", ANY_CPU, 0)                                                                 \
    X(vmovups_16, "vmovups %%xmm15, (%%rdi)", AVX, 16)                                                                 \
    X(vmovups_32, "vmovups (%%rsi), %%ymm9; vmovups %%ymm9, 0x20(%%rdi)", AVX, 32)                                     \
    X(vmovaps_32, "vmovups 1(%%rsi), %%ymm1; vmovaps %%ymm1, (%%rdi)", AVX, 32)                                        \
    X(vmovntdq, "vmovups 2(%%rsi), %%ymm1; vmovntdq %%ymm1, (%%rdi)", AVX, 32)                                         \
    X(vmovsd, "vmovsd %%xmm7, (%%rdi)", AVX, 8)                                                                        \
    X(vextract_low, "vmovups (%%rsi), %%ymm9; vextractf128 $0, %%ymm9, (%%rdi)", AVX, 16)                              \
    X(vextract_high, "vmovups (%%rsi), %%ymm9; vextractf128 $1, %%ymm9, (%%rdi)", AVX, 16)                             \
    X(vzeroed, "vzeroall; vmovups %%ymm9, (%%rdi)", AVX, 32)                                                           \
    X(zmm, "vmovdqu64 (%%rsi), %%zmm3; vmovdqu64 %%zmm3, 0x40(%%rdi)", AVX512, 64)                                     \
    X(zmm_high, "vmovdqu64 1(%%rsi), %%zmm29; vmovdqu64 %%zmm29, 0x40(%%rdi)", AVX512, 64)                             \
    X(ymm_high, "vmovdqu64 2(%%rsi), %%ymm17; vmovdqu8 %%ymm17, 0x20(%%rdi)", AVX512, 32)                              \
    X(xmm_high, "vmovdqu64 3(%%rsi), %%xmm21; vmovups %%xmm21, (%%rdi)", AVX512, 16)                                   \
    X(mask_low, "movl $0x7f, %%eax; kmovq %%rax, %%k1; vmovdqu64 (%%rsi), %%zmm3; vmovdqu8 %%zmm3, (%%rdi)%{%%k1%}",   \
      AVX512, 7)                                                                                                       \
    X(mask_middle, "movl $6, %%eax; kmovq %%rax, %%k3; vmovdqu64 (%%rsi), %%zmm3; vmovupd %%zmm3, (%%rdi)%{%%k3%}",    \
      AVX512, 16)                                                                                                      \
    X(mask_beyond, "movl $-1, %%eax; kmovq %%rax, %%k3; vmovdqu64 (%%rsi), %%ymm3; vmovdqu32 %%ymm3, (%%rdi)%{%%k3%}", \
      AVX512, 32)                                                                                                      \
    X(mask_gaps, "movl $5, %%eax; kmovq %%rax, %%k3; vmovdqu64 (%%rsi), %%zmm3; vmovdqu32 %%zmm3, (%%rdi)%{%%k3%}",    \
      AVX512, 0)

static const uint8_t source[128] = {
    0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x87, 0x98, 0xa9, 0xba, 0xcb, 0xdc, 0xed, 0xfe, 0x0f, 0x1e, 0x2d, 0x3c,
    0x4b, 0x5a, 0x69, 0x78, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0x09, 0x1a, 0x2b, 0x3d, 0x4e, 0x5f, 0x60,
    0x71, 0x82, 0x93, 0xa4, 0xb5, 0xc6, 0xd7, 0xe8, 0xf9, 0x0a, 0x1c, 0x2e, 0x3f, 0x41, 0x53, 0x66, 0x79, 0x8c, 0x9f,
    0xb2, 0xc7, 0xd8, 0xeb, 0xfc, 0x0d, 0x13, 0x24, 0x35, 0x46, 0x57, 0x68, 0x7a, 0x8b, 0x9c, 0xad, 0xbe, 0xcf,
};

#define DEFINE(name, text, needs, size)                                                                                \
    __attribute__((noinline)) static void name(uint8_t *target) {                                                      \
        const uint8_t *from = source;                                                                                  \
        uint64_t a = 0x8182838485868788, c = 0x1122334455667799, d = 0xf0e1d2c3b4a59687;                               \
        __asm__ volatile("movq $0x7162534, %%r8; movq $-9, %%r9; leaq 5(%%rax), %%r10; notq %%r10; "                   \
                         "movq %%rdx, %%r11; " FILL_VECTORS text                                                       \
                         : "+D"(target), "+S"(from), "+a"(a), "+c"(c), "+d"(d)                                         \
                         :                                                                                             \
                         : "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm3", "xmm7", "xmm9", "xmm15", "cc", "memory"); \
    }
STORES(DEFINE)

#define ROW(name, text, needs, size) {#name, name, needs, size},
static const struct {
    const char *name;
    void (*function)(uint8_t *);
    enum needs needs;
    size_t size; // of the value; 0: it must not be claimed to be known
} stores[] = {STORES(ROW)};

static bool cpu_has(enum needs needs) {
    switch (needs) {
    case AVX:
        return __builtin_cpu_supports("avx");
    case AVX2:
        return __builtin_cpu_supports("avx2");
    case AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw");
    default:
        return true;
    }
}

static void check_store(size_t i) {
    const char *name = stores[i].name;
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE) < 0)
        abort();
    for (size_t at = 0; at < PAGE; at++)
        page[at] = (uint8_t)(at * 37 + 11);
    if (mprotect(page, PAGE, PROT_READ) < 0)
        abort();
    memset(&seen, 0, sizeof seen);
    stores[i].function(page + AT);
    CHECK(seen.size == stores[i].size, "%s: %zu bytes, not %zu", name, seen.size, stores[i].size);
    if (seen.size == 0)
        return;
    CHECK(memcmp((const void *)seen.address, seen.value, seen.size) == 0, "%s", name);
    // Nothing else has changed.
    for (size_t at = 0; at < PAGE; at++) {
        if ((uintptr_t)(page + at) - seen.address >= seen.operand_size)
            CHECK(page[at] == (uint8_t)(at * 37 + 11), "%s: byte %zu", name, at);
    }
}

int main(void) {
    page = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (page == MAP_FAILED || sigaction(SIGSEGV, &action, NULL) < 0) {
        perror("test_decode_value");
        return TEST_FAILED;
    }
    // A handler must not run on a page that cannot be written, as a push has it there.
    static uint8_t handler_stack[1 << 16];
    stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    if (sigaltstack(&stack, NULL) < 0)
        return TEST_FAILED;
    page += PAGE;
    memprot_vector_register_prepare();
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++) {
        if (cpu_has(stores[i].needs))
            check_store(i);
    }
    return failed_checks ? TEST_FAILED : TEST_PASSED;
}

#endif
