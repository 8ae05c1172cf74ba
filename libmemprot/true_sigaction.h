// The C library's own sigaction(2), also where a preloaded library answers to that name.
#pragma once

#include <signal.h>

/// By another of its names, which the GNU C library has exported since 2.2.5. May run in a signal handler.
int memprot_true_sigaction(int signal, const struct sigaction *action, struct sigaction *before) __asm__("__sigaction");
