// Living with other handlers of SIGSEGV and SIGBUS: who was there before, and how a signal goes on to them.
#pragma once

#include <signal.h>
#include <stdbool.h>

typedef void memprot_handler(int signal, siginfo_t *info, void *context);

/// Installs the handler for both signals, or moves it back to the top when another was installed since; that
/// one, or the one found first, is next. Two system calls when nothing is to be done.
/// @return 0, or -1 with errno set.
int memprot_chain_install(memprot_handler *handler);

/// Whether the handler is the current one of both signals: two system calls.
bool memprot_chain_is_on_top(memprot_handler *handler);

/// Puts back the handlers found at installation where @p handler is still the current one. Where another came
/// later, it may call ours: ours stays reachable, and passes everything on.
/// @return 0, or -1 with errno set.
int memprot_chain_uninstall(memprot_handler *handler);

/// Passes a signal on to the next handler, or to what the kernel does by default. May run in a signal
/// handler.
void memprot_chain_next(int signal, siginfo_t *info, void *context);

/// Whether the calling thread is passing a signal on at this moment. May run in a signal handler.
bool memprot_chain_is_passing(void);

/// Whether the next handler is one that ends the process: none at all, or one that asks for no details and
/// may be interrupted by itself, as those do that print and raise the signal again. Others (a virtual
/// machine's) may recover. May run in a signal handler.
bool memprot_chain_is_final(int signal);
