// The accessors for aarch64 and their exception table: [start, stop) of each instruction that may fault, and where to go.

        .macro row start, stop, fixup
        .section .rodata.memprot_access, "a"
        .long   \start - ., \stop - ., \fixup - .
        .text
        .endm

        .macro function name
        .globl  \name
        .type   \name, %function
\name:
        .cfi_startproc
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
1:      ldrb    w0, [x0]
2:      ret
3:      mov     w0, #-1
        ret
        row     1b, 2b, 3b
        done    memprot_access_load

// int memprot_access_store(uintptr_t to, unsigned char byte)
        function memprot_access_store
1:      strb    w1, [x0]
2:      mov     w0, #0
        ret
3:      mov     w0, #-1
        ret
        row     1b, 2b, 3b
        done    memprot_access_store

// size_t memprot_access_copy(void *to, const void *from, size_t length)
        function memprot_access_copy
4:      cmp     x2, #8
        b.lo    6f
1:      ldr     x3, [x1]
2:      str     x3, [x0]
3:      add     x1, x1, #8
        add     x0, x0, #8
        sub     x2, x2, #8
        b       4b
6:      cbz     x2, 9f
7:      ldrb    w3, [x1], #1            // also entered when eight bytes at once faulted: finds the very byte
8:      strb    w3, [x0], #1
10:     sub     x2, x2, #1
        b       6b
9:      mov     x0, x2
        ret
        row     1b, 3b, 7b
        row     7b, 10b, 9b
        done    memprot_access_copy

        .section .rodata.memprot_access, "a"
        .globl  memprot_access_rows_end
        .hidden memprot_access_rows_end
memprot_access_rows_end:
        .section .note.GNU-stack, "", %progbits
