// The ends of a process that pass by the handlers of exit(3).
#include "program.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

// May run in a signal handler.
EXPORTED void _exit(int status) {
    if (memprot_program_is_here())
        status = memprot_program_leave(status);
    for (;;)
        syscall(SYS_exit_group, status);
}

// May run in a signal handler.
EXPORTED void _Exit(int status) { _exit(status); }

EXPORTED void quick_exit(int status) {
    void (*original)(int) = (void (*)(int))dlsym(RTLD_NEXT, "quick_exit");
    if (memprot_program_is_here())
        status = memprot_program_leave(status);
    if (original)
        original(status);
    _exit(status);
}
