// What a program does to the handlers of SIGSEGV and SIGBUS, it does to what stands behind memprot's: its own handlers
// run as they would, and memprot's stays in front.
#include "chain.h"
#include "program.h"
#include "true_sigaction.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

#define EXPORTED __attribute__((visibility("default")))

// May run in a signal handler.
static bool is_ours(int signal) { return (signal == SIGSEGV || signal == SIGBUS) && memprot_program_is_here(); }

// May run in a signal handler.
EXPORTED int sigaction(int signal, const struct sigaction *action, struct sigaction *before) {
    return is_ours(signal) ? memprot_chain_change_next(signal, action, before)
                           : memprot_true_sigaction(signal, action, before);
}

// May run in a signal handler.
static sighandler_t change(int signal, sighandler_t handler, int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, before;
    sigemptyset(&action.sa_mask);
    if (!(flags & SA_NODEFER))
        sigaddset(&action.sa_mask, signal);
    return memprot_chain_change_next(signal, &action, &before) < 0 ? SIG_ERR : before.sa_handler;
}

static struct {
    sighandler_t (*signal)(int, sighandler_t), (*sysv_signal)(int, sighandler_t);
} others;

// Before the program has begun, and before it can be in a handler.
__attribute__((constructor)) static void find_others(void) {
    others.signal = (sighandler_t (*)(int, sighandler_t))dlsym(RTLD_NEXT, "signal");
    others.sysv_signal = (sighandler_t (*)(int, sighandler_t))dlsym(RTLD_NEXT, "__sysv_signal");
}

EXPORTED sighandler_t signal(int number, sighandler_t handler) {
    if (!others.signal)
        find_others();
    return is_ours(number) ? change(number, handler, SA_RESTART) : others.signal(number, handler);
}

EXPORTED sighandler_t bsd_signal(int number, sighandler_t handler) { return signal(number, handler); }

EXPORTED sighandler_t ssignal(int number, sighandler_t handler) { return signal(number, handler); }

EXPORTED sighandler_t __sysv_signal(int number, sighandler_t handler) {
    if (!others.sysv_signal)
        find_others();
    return is_ours(number) ? change(number, handler, (int)(SA_RESETHAND | SA_NODEFER))
                           : others.sysv_signal(number, handler);
}

EXPORTED sighandler_t sysv_signal(int number, sighandler_t handler) { return __sysv_signal(number, handler); }
