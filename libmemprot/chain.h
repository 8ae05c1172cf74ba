// Living with other handlers of SIGSEGV and SIGBUS: who was there before, and how a signal goes on to them.
//
// Ours is not SA_NODEFER: the kernel would deliver a second signal before the first one's handler has executed one
// instruction, a third before the second one's, until the stack ends. So the signal is blocked in our handler, and is
// unblocked by memprot_chain_unblock where an access of its own may fault.
#pragma once

#include <signal.h>
#include <stdbool.h>

typedef void memprot_handler(int signal, siginfo_t *info, void *context);

/// Installs the handler for SIGSEGV or SIGBUS, or moves it back to the top when another was installed since; that
/// one, or the one found first, is next. One system call when nothing is to be done.
/// @return 0, or -1 with errno set.
int memprot_chain_install(memprot_handler *handler, int signal);

/// The same for who comes and goes often, in one call: but where another handler than the last time is there, a signal
/// may go to the one of the last time for a moment.
/// @return 0, or -1 with errno set.
int memprot_chain_come_back(memprot_handler *handler, int signal);

/// Puts back the handler found at installation where ours is still the current one. Where another came
/// later, it may call ours: ours stays reachable, and passes everything on.
/// @return 0, or -1 with errno set.
int memprot_chain_uninstall(int signal);

/// The same for who comes and goes often: cheaper, but where another handler came later, that one is away for a moment.
/// @return 0, or -1 with errno set.
int memprot_chain_withdraw(int signal);

/// Changes and tells what is next, as sigaction(2) would change and tell the handler were ours not there.
/// @param action NULL to change nothing; @param ret NULL for nobody who wants to know.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_chain_change_next(int signal, const struct sigaction *action, struct sigaction *ret);

/// Lets a fault inside the handler reach a handler, instead of ending the process in silence. May run in a signal
/// handler.
void memprot_chain_unblock(int signal, sigset_t *ret);

/// Puts back the @p mask from before memprot_chain_unblock where the kernel does not: where the handler that the signal
/// is being passed to has called ours in turn, as its predecessor. May run in a signal handler.
void memprot_chain_return(const void *context, const void *frame, const sigset_t *mask);

/// Passes a signal on to the next handler, or to what the kernel does by default: as the kernel would call it, with
/// what it wants blocked, and once only where it asked for that. May run in a signal handler.
/// @param frame of the handler: it tells a signal of the kernel's from a call by the one that it is being passed to.
void memprot_chain_next(int signal, siginfo_t *info, void *context, const void *frame);

/// Keeps a signal that was sent while a fault is being recovered from, until memprot_chain_send_held. May run in a
/// signal handler.
void memprot_chain_hold(const siginfo_t *info);

/// Sends again what was held, to this thread. May run in a signal handler.
void memprot_chain_send_held(void);

/// Whether the next handler is one that ends the process: none at all, or one that asks for no details and
/// may be interrupted by itself, as those do that print and raise the signal again. Others (a virtual
/// machine's) may recover. May run in a signal handler.
bool memprot_chain_is_final(int signal, const void *context, const void *frame);

/// Whether the next handler asks for details, as one does that may recover. May run in a signal handler.
bool memprot_chain_may_recover(int signal, const void *context, const void *frame);
