// A system call without the C library around it: no errno, no jump through the linkage table.
//
// On processors that forget where branches go at each system call, those jumps cost more than the rest of a
// wrapper.
#pragma once

/// A system call of three arguments.
/// @return what the kernel returns: on failure the errno, negated. May run in a signal handler.
static inline long memprot_syscall3(long number, unsigned long first, unsigned long second, unsigned long third) {
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(first), "S"(second), "d"(third)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register unsigned long x0 __asm__("x0") = first, x1 __asm__("x1") = second, x2 __asm__("x2") = third;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return (long)x0;
#else
#error "memprot knows how to call the kernel on x86-64 and aarch64"
#endif
}
