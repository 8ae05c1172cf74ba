// void *dlopen(const char *file, int mode), counted, for x86-64. No register but the flags changes.

        .bss
        .balign 8
        .globl  memprot_loads_begun, memprot_loads_original
        .hidden memprot_loads_begun, memprot_loads_original
        .type   memprot_loads_begun, @object
        .size   memprot_loads_begun, 8
memprot_loads_begun:
        .zero   8
        .type   memprot_loads_original, @object
        .size   memprot_loads_original, 8
memprot_loads_original:
        .zero   8

        .text
        .globl  memprot_loads_watched_dlopen
        .hidden memprot_loads_watched_dlopen
        .type   memprot_loads_watched_dlopen, @function
memprot_loads_watched_dlopen:
        .cfi_startproc
        endbr64
        lock incq memprot_loads_begun(%rip)
        jmp     *memprot_loads_original(%rip)
        .cfi_endproc
        .size   memprot_loads_watched_dlopen, . - memprot_loads_watched_dlopen
        .section .note.GNU-stack, "", @progbits
