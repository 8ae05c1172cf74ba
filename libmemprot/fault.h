// The SIGSEGV and SIGBUS engine: a fault on memory that memprot owns is let through onto bytes that do not
// count, recorded, and told to whoever delivers it; every other fault goes on to the handler that was there
// before.
#pragma once

#include "policy.h"
#include "record.h"

#include <signal.h>

/// What the core does not know. Each is called in a signal handler.
struct memprot_fault_hooks {
    /// Adds the interpreter's stack, and what it runs in, to a record being filled; returns who may claim it, which is
    /// up to the core where the thread has a scope of its own.
    int (*describe)(struct memprot_record *record, enum memprot_policy policy);
    /// A record that @p owner may claim was published by this thread.
    void (*deliver)(int owner, enum memprot_policy policy);
    /// What the thread runs code in.
    memprot_outer_context *outer;
    /// The process is about to die of the fault, on memory that memprot owns or not. @p record is NULL when
    /// all are in use.
    void (*die)(const struct memprot_record *record, bool owned, const ucontext_t *context);
    /// Whether the process dies of accesses that the kernel made for it, too; the kernel itself only refuses them.
    bool calls_kill;
};

/// Installs the handlers, or moves them back to the top when another handler has been installed since, with
/// that one as the next in the chain. Cheap when nothing is to be done (two system calls).
/// @return 0, or -1 with errno set.
int memprot_fault_install(void);

/// The same for SIGBUS alone, which is all that files the program has mapped by itself need.
int memprot_fault_install_for_files(void);

/// Puts back the handlers found at installation, where ours still are the current ones; with @p but_for_files that of
/// SIGSEGV only.
/// @return 0, or -1 with errno set.
int memprot_fault_uninstall(bool but_for_files);

/// Puts back what memprot_fault_install_for_files found.
/// @return 0, or -1 with errno set.
int memprot_fault_uninstall_for_files(void);

/// The hooks stay as they are while handlers are installed; NULL for none.
void memprot_fault_set_hooks(const struct memprot_fault_hooks *hooks);

/// Watches for forks, before anything asks who the calling thread is.
void memprot_fault_prepare(void);

/// The calling thread's id, as the kernel numbers it. May run in a signal handler.
int memprot_fault_thread(void);

/// Whether the calling thread is the one the process began with; meaningful once the handlers have been installed.
/// May run in a signal handler.
bool memprot_fault_in_main_thread(void);

/// What is to happen to a fault of the calling thread on memory that @p overlay answers for, or nobody where it is
/// NULL. May run in a signal handler.
struct memprot_ruling memprot_fault_rule(const struct memprot_overlay *overlay);

/// Hands a record that was filled by somebody else to whoever delivers it, as the engine does its own. May run in a
/// signal handler.
void memprot_fault_report(struct memprot_record *record, const struct memprot_ruling *ruling);
