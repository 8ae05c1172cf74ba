// Instructions whose memory operand is known, one a row.
#pragma once

enum needs { ANY_CPU, AVX, AVX2, AVX512 };

// name, instruction with its target in rdi, CPU, bytes accessed (0: the decoder must not claim to know),
// distance of the operand from the target, alignment it asks for
#define INSTRUCTIONS(X)                                                                                                \
    X(mov_store_1, "movb %%al, (%%rdi)", ANY_CPU, 1, 0, 1)                                                             \
    X(mov_store_2, "movw %%ax, (%%rdi)", ANY_CPU, 2, 0, 1)                                                             \
    X(mov_store_4, "movl %%eax, (%%rdi)", ANY_CPU, 4, 0, 1)                                                            \
    X(mov_store_8, "movq %%rax, (%%rdi)", ANY_CPU, 8, 0, 1)                                                            \
    X(mov_load_8, "movq (%%rdi), %%rax", ANY_CPU, 8, 0, 1)                                                             \
    X(mov_immediate_2, "movw $0x1234, 0x11(%%rdi)", ANY_CPU, 2, 0x11, 1)                                               \
    X(mov_immediate_8, "movq $-1, 0x1234(%%rdi)", ANY_CPU, 8, 0x1234, 1)                                               \
    X(mov_indexed, "movq $5, %%rcx; movl %%eax, -0x10(%%rdi,%%rcx,8)", ANY_CPU, 4, 24, 1)                              \
    X(mov_high_registers, "movq %%rdi, %%r13; movq $3, %%r12; movb %%r9b, (%%r13,%%r12,2)", ANY_CPU, 1, 6, 1)          \
    X(mov_without_base, "movb %%al, 4(,%%rdi,1)", ANY_CPU, 1, 4, 1)                                                    \
    X(movzx_1, "movzbl (%%rdi), %%eax", ANY_CPU, 1, 0, 1)                                                              \
    X(movzx_2, "movzwl (%%rdi), %%eax", ANY_CPU, 2, 0, 1)                                                              \
    X(movsx_1, "movsbq (%%rdi), %%rax", ANY_CPU, 1, 0, 1)                                                              \
    X(movsxd, "movslq (%%rdi), %%rax", ANY_CPU, 4, 0, 1)                                                               \
    X(add_8, "addq %%rax, (%%rdi)", ANY_CPU, 8, 0, 1)                                                                  \
    X(add_immediate_2, "addw $0x1234, (%%rdi)", ANY_CPU, 2, 0, 1)                                                      \
    X(compare_4, "cmpl (%%rdi), %%eax", ANY_CPU, 4, 0, 1)                                                              \
    X(increment_1, "incb (%%rdi)", ANY_CPU, 1, 0, 1)                                                                   \
    X(negate_4, "negl (%%rdi)", ANY_CPU, 4, 0, 1)                                                                      \
    X(shift_8, "shlq $3, (%%rdi)", ANY_CPU, 8, 0, 1)                                                                   \
    X(multiply_4, "imull $1000, (%%rdi), %%eax", ANY_CPU, 4, 0, 1)                                                     \
    X(conditional_move_8, "cmovzq (%%rdi), %%rax", ANY_CPU, 8, 0, 1)                                                   \
    X(set_condition, "setz (%%rdi)", ANY_CPU, 1, 0, 1)                                                                 \
    X(bit_test_set, "btsl $3, (%%rdi)", ANY_CPU, 4, 0, 1)                                                              \
    X(exchange_4, "xchgl %%eax, (%%rdi)", ANY_CPU, 4, 0, 1)                                                            \
    X(xadd_8, "lock xaddq %%rax, (%%rdi)", ANY_CPU, 8, 0, 8)                                                           \
    X(cmpxchg_2, "lock cmpxchgw %%cx, (%%rdi)", ANY_CPU, 2, 0, 2)                                                      \
    X(cmpxchg8b, "cmpxchg8b (%%rdi)", ANY_CPU, 8, 0, 8)                                                                \
    X(cmpxchg16b, "cmpxchg16b (%%rdi)", ANY_CPU, 16, 0, 16)                                                            \
    X(push_memory, "pushq (%%rdi)", ANY_CPU, 8, 0, 1)                                                                  \
    X(pop_memory, "popq (%%rdi)", ANY_CPU, 8, 0, 1)                                                                    \
    X(call_memory, "call *(%%rdi)", ANY_CPU, 8, 0, 1)                                                                  \
    X(jump_memory, "jmp *(%%rdi)", ANY_CPU, 8, 0, 1)                                                                   \
    X(movnti, "movntiq %%rax, (%%rdi)", ANY_CPU, 8, 0, 1)                                                              \
    X(movss, "movss %%xmm0, (%%rdi)", ANY_CPU, 4, 0, 1)                                                                \
    X(movsd, "movsd %%xmm0, 8(%%rdi)", ANY_CPU, 8, 8, 1)                                                               \
    X(movups, "movups %%xmm0, (%%rdi)", ANY_CPU, 16, 0, 1)                                                             \
    X(movaps, "movaps %%xmm0, (%%rdi)", ANY_CPU, 16, 0, 16)                                                            \
    X(movdqu_load, "movdqu (%%rdi), %%xmm0", ANY_CPU, 16, 0, 1)                                                        \
    X(movntps, "movntps %%xmm0, (%%rdi)", ANY_CPU, 16, 0, 16)                                                          \
    X(movq_store, "movq %%xmm0, (%%rdi)", ANY_CPU, 8, 0, 1)                                                            \
    X(movd_store, "movd %%xmm0, (%%rdi)", ANY_CPU, 4, 0, 1)                                                            \
    X(movhps, "movhps %%xmm0, (%%rdi)", ANY_CPU, 8, 0, 1)                                                              \
    X(addsd, "addsd (%%rdi), %%xmm0", ANY_CPU, 8, 0, 1)                                                                \
    X(mulps, "mulps (%%rdi), %%xmm0", ANY_CPU, 16, 0, 16)                                                              \
    X(cvtsi2sd_4, "cvtsi2sdl (%%rdi), %%xmm0", ANY_CPU, 4, 0, 1)                                                       \
    X(cvtsi2sd_8, "cvtsi2sdq (%%rdi), %%xmm0", ANY_CPU, 8, 0, 1)                                                       \
    X(cvtss2sd, "cvtss2sd (%%rdi), %%xmm0", ANY_CPU, 4, 0, 1)                                                          \
    X(cvtps2pd, "cvtps2pd (%%rdi), %%xmm0", ANY_CPU, 8, 0, 1)                                                          \
    X(cvttsd2si, "cvttsd2si (%%rdi), %%eax", ANY_CPU, 8, 0, 1)                                                         \
    X(fstp_4, "fninit; fldz; fstps (%%rdi)", ANY_CPU, 4, 0, 1)                                                         \
    X(fstp_8, "fninit; fldz; fstpl (%%rdi)", ANY_CPU, 8, 0, 1)                                                         \
    X(fstp_10, "fninit; fldz; fstpt (%%rdi)", ANY_CPU, 10, 0, 1)                                                       \
    X(fild_2, "fninit; filds (%%rdi)", ANY_CPU, 2, 0, 1)                                                               \
    X(fnstcw, "fnstcw (%%rdi)", ANY_CPU, 2, 0, 1)                                                                      \
    X(stmxcsr, "stmxcsr (%%rdi)", ANY_CPU, 4, 0, 1)                                                                    \
    X(fxsave, "fxsave (%%rdi)", ANY_CPU, 0, 0, 16)                                                                     \
    X(vmovups_16, "vmovups %%xmm0, (%%rdi)", AVX, 16, 0, 1)                                                            \
    X(vmovups_32, "vmovups %%ymm0, 0x20(%%rdi)", AVX, 32, 0x20, 1)                                                     \
    X(vmovaps_32, "vmovaps %%ymm0, (%%rdi)", AVX, 32, 0, 32)                                                           \
    X(vmovntdq_32, "vmovntdq %%ymm0, (%%rdi)", AVX, 32, 0, 32)                                                         \
    X(vmovsd, "vmovsd %%xmm0, (%%rdi)", AVX, 8, 0, 1)                                                                  \
    X(vextractf128, "vextractf128 $1, %%ymm0, (%%rdi)", AVX, 16, 0, 1)                                                 \
    X(vbroadcastss, "vbroadcastss (%%rdi), %%ymm0", AVX, 4, 0, 1)                                                      \
    X(vcvtdq2pd, "vcvtdq2pd (%%rdi), %%ymm0", AVX, 16, 0, 1)                                                           \
    X(vpmovzxbq, "vpmovzxbq (%%rdi), %%ymm0", AVX2, 4, 0, 1)                                                           \
    X(vmaskmovps, "vpcmpeqd %%ymm1, %%ymm1, %%ymm1; vmaskmovps %%ymm0, %%ymm1, (%%rdi)", AVX2, 0, 0, 1)                \
    X(evex_store_64, "vmovups %%zmm0, 0x40(%%rdi)", AVX512, 64, 0x40, 1)                                               \
    X(evex_store_scaled, "vmovups %%zmm0, -0x80(%%rdi)", AVX512, 64, -0x80, 1)                                         \
    X(evex_store_32, "vmovdqu8 %%ymm16, 0x60(%%rdi)", AVX512, 32, 0x60, 1)                                             \
    X(evex_broadcast, "vaddpd 8(%%rdi)%{1to8%}, %%zmm0, %%zmm0", AVX512, 8, 8, 1)                                      \
    X(evex_scalar, "vaddss 4(%%rdi), %%xmm0, %%xmm16", AVX512, 4, 4, 1)                                                \
    X(evex_narrowing, "vpmovqd %%zmm0, 0x20(%%rdi)", AVX512, 32, 0x20, 1)                                              \
    X(evex_masked, "kxnorw %%k1, %%k1, %%k1; vmovups %%zmm0, (%%rdi)%{%%k1%}", AVX512, 64, 0, 1)
