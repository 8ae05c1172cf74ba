#include "program_break.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static uintptr_t now(void) { return (uintptr_t)syscall(SYS_brk, 0); }

uintptr_t memprot_brk(uintptr_t address) {
    if (address == 0)
        return now();
    // The library's wrapper takes a break that stayed above the address for a success.
    if (brk((void *)address) < 0 || now() != address) {
        errno = ENOMEM;
        return UINTPTR_MAX;
    }
    return address;
}

static uintptr_t move(uintptr_t from, uintptr_t to) {
    return to == from || memprot_brk(to) != UINTPTR_MAX ? from : UINTPTR_MAX;
}

uintptr_t memprot_break_raise(uintptr_t bytes) {
    uintptr_t from = now(), to;
    if (__builtin_add_overflow(from, bytes, &to)) {
        errno = ENOMEM;
        return UINTPTR_MAX;
    }
    return move(from, to);
}

uintptr_t memprot_break_lower(uintptr_t bytes) {
    uintptr_t from = now(), to;
    // Address 0 would be a question.
    if (__builtin_sub_overflow(from, bytes, &to) || to == 0) {
        errno = ENOMEM;
        return UINTPTR_MAX;
    }
    return move(from, to);
}
