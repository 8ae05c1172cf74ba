// The C library's own sigaction, also where a preloaded one answers to that name.
#pragma once

#include <signal.h>

// Exported by the GNU C library since 2.2.5, and declared in no header.
int __sigaction(int signal, const struct sigaction *action, struct sigaction *before);

/// May run in a signal handler.
static inline int memprot_true_sigaction(int signal, const struct sigaction *action, struct sigaction *before) {
    return __sigaction(signal, action, before);
}
