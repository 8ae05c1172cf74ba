// void *dlopen(const char *file, int mode), counted, for aarch64. Only registers that the linker may use change.

        .bss
        .balign 8
        .globl  memprot_loads_begun, memprot_loads_original
        .hidden memprot_loads_begun, memprot_loads_original
        .type   memprot_loads_begun, %object
        .size   memprot_loads_begun, 8
memprot_loads_begun:
        .zero   8
        .type   memprot_loads_original, %object
        .size   memprot_loads_original, 8
memprot_loads_original:
        .zero   8

        .text
        .globl  memprot_loads_watched_dlopen
        .hidden memprot_loads_watched_dlopen
        .type   memprot_loads_watched_dlopen, %function
memprot_loads_watched_dlopen:
        .cfi_startproc
        hint    #34                     // bti c
        adrp    x16, memprot_loads_begun
        add     x16, x16, :lo12:memprot_loads_begun
1:      ldaxr   x17, [x16]
        add     x17, x17, #1
        stlxr   w15, x17, [x16]
        cbnz    w15, 1b
        adrp    x16, memprot_loads_original
        ldr     x16, [x16, :lo12:memprot_loads_original]
        br      x16
        .cfi_endproc
        .size   memprot_loads_watched_dlopen, . - memprot_loads_watched_dlopen
        .section .note.GNU-stack, "", %progbits
