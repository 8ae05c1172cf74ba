// The accessors for x86-64 and their exception table: [start, stop) of each instruction that may fault, and where to go.

        .macro row start, stop, fixup
        .section .rodata.memprot_access, "a"
        .long   \start - ., \stop - ., \fixup - .
        .text
        .endm

        .macro function name
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        endbr64
        .endm

        .macro done name
        .cfi_endproc
        .size   \name, . - \name
        .endm

        .section .rodata.memprot_access, "a"
        .balign 4
        .globl  memprot_access_rows
        .hidden memprot_access_rows
memprot_access_rows:
        .text

// int memprot_access_load(uintptr_t from)
        function memprot_access_load
1:      movzbl  (%rdi), %eax
2:      ret
3:      movl    $-1, %eax
        ret
        row     1b, 2b, 3b
        done    memprot_access_load

// int memprot_access_store(uintptr_t to, unsigned char byte)
        function memprot_access_store
1:      movb    %sil, (%rdi)
2:      xorl    %eax, %eax
        ret
3:      movl    $-1, %eax
        ret
        row     1b, 2b, 3b
        done    memprot_access_store

// size_t memprot_access_copy(void *to, const void *from, size_t length)
        function memprot_access_copy
        movq    %rdx, %rcx
1:      rep movsb
2:      movq    %rcx, %rax              // after a fault rcx still counts what is left
        ret
        row     1b, 2b, 2b
        done    memprot_access_copy

        .section .rodata.memprot_access, "a"
        .globl  memprot_access_rows_end
        .hidden memprot_access_rows_end
memprot_access_rows_end:
        .section .note.GNU-stack, "", @progbits
