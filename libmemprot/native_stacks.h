// Native stacks as numbers: each distinct stack is kept once, for good. Blocks come from the same few places again and
// again, so a stack that is known at its place is not unwound: it is enough that its return addresses are all there.
#pragma once

#include <stdint.h>

enum { MEMPROT_NATIVE_DEPTH = 16 };

/// Who called a function of ours: its return address, and a place in its own frame: on aarch64 that of the caller's
/// frame pointer.
struct memprot_caller {
    const void *address, *frame;
};

#if defined(__aarch64__)
#define MEMPROT_FRAME __builtin_frame_address(0)
#else
#define MEMPROT_FRAME __builtin_dwarf_cfa() // which costs functions that need no frame pointer none
#endif

/// Of the function it is written in.
#define MEMPROT_CALLER ((struct memprot_caller){__builtin_return_address(0), MEMPROT_FRAME})

/// The number of the calling thread's stack, the caller innermost, or 0 where there is no room for another. On a stack
/// that is not the thread's own, which nobody knows the ends of, it is only the caller. Not for signal handlers, and
/// what it calls may allocate memory for each thread's first stack.
uint32_t memprot_native_stack_capture(const struct memprot_caller *caller);

/// Writes up to @p capacity addresses to @p pcs, innermost first; all are return addresses. May run in a signal
/// handler.
/// @return how many; 0 for a number that was not given out.
uint32_t memprot_native_stack_read(uint32_t number, uintptr_t *pcs, uint32_t capacity);

/// The unwinder for the above, which must not be looked for while it is needed. Repeated calls do nothing.
void memprot_native_stacks_prepare(void);

/// Asks where the calling thread's stack ends, which takes a lock of the thread's, and may allocate; otherwise its first
/// capture does. Repeated calls do nothing.
void memprot_native_stacks_meet_thread(void);
