// The SIGSEGV and SIGBUS engine: a fault on memory that memprot owns is let through onto bytes that do not
// count, recorded, and told to whoever delivers it; every other fault goes on to the handler that was there
// before.
#pragma once

#include "record.h"

#include <signal.h>

enum memprot_policy {
    MEMPROT_POLICY_DIE,   // report and die of the signal
    MEMPROT_POLICY_RAISE, // recover; the deliverer makes an exception of it
    MEMPROT_POLICY_LOG,   // recover; the deliverer notes it
    MEMPROT_POLICY_ABORT, // as DIE, but asked for
};

/// What the core does not know. Each is called in a signal handler.
struct memprot_fault_hooks {
    /// Adds the interpreter's stack to a record being filled; returns who may claim it.
    int (*describe)(struct memprot_record *record, enum memprot_policy policy);
    /// A record that @p owner may claim was published by this thread.
    void (*deliver)(int owner, enum memprot_policy policy);
    /// The process is about to die of the fault, on memory that memprot owns or not. @p record is NULL when
    /// all are in use.
    void (*die)(const struct memprot_record *record, bool owned, const ucontext_t *context);
};

/// Installs the handlers, or moves them back to the top when another handler has been installed since, with
/// that one as the next in the chain. Cheap when nothing is to be done (two system calls).
/// @return 0, or -1 with errno set.
int memprot_fault_install(void);

/// Puts back the handlers found at installation, where ours still are the current ones.
/// @return 0, or -1 with errno set.
int memprot_fault_uninstall(void);

/// The hooks stay as they are while handlers are installed; NULL for none.
void memprot_fault_set_hooks(const struct memprot_fault_hooks *hooks);

/// What happens to a fault while no scope is open.
void memprot_fault_set_policy(enum memprot_policy policy);

/// While at least one scope is open, the policy is MEMPROT_POLICY_RAISE.
void memprot_fault_enter_scope(void);
void memprot_fault_leave_scope(void);
bool memprot_fault_in_scope(void); // May run in a signal handler.

/// The calling thread's id, as the kernel numbers it. May run in a signal handler.
int memprot_fault_thread(void);

/// Whether the calling thread is the one the process began with; meaningful once the handlers have been installed.
/// May run in a signal handler.
bool memprot_fault_in_main_thread(void);

/// Whether a fault of the calling thread would be recorded now, by a scope or a policy. May run in a signal handler.
bool memprot_fault_is_recorded(void);

/// Hands a record that was filled by somebody else to whoever delivers it, as the engine does its own. May run in a
/// signal handler.
void memprot_fault_report(struct memprot_record *record);
