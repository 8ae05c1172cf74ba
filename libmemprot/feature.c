#include "feature.h"

#include "memory_trials.h"
#include "watching_trials.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

const struct memprot_feature memprot_features[] = {
    {"mprotect", memprot_try_mprotect, false},
    {"fault_signals", memprot_try_fault_signals, true},
    {"madv_guard", memprot_try_madv_guard, false},
    {"memfd", memprot_try_memfd, false},
    {"memfd_noexec", memprot_try_memfd_noexec, false},
    {"memfd_secret", memprot_try_memfd_secret, false},
    {"userfaultfd", memprot_try_userfaultfd, false},
    {"userfaultfd_user_mode", memprot_try_userfaultfd_user_mode, false},
    {"userfaultfd_wp_async", memprot_try_userfaultfd_wp_async, true},
    {"pagemap_scan", memprot_try_pagemap_scan, false},
    {"soft_dirty", memprot_try_soft_dirty, true},
    {"procmap_query", memprot_try_procmap_query, false},
    {"proc_mem_write", memprot_try_proc_mem_write, false},
    {"process_vm_readv", memprot_try_process_vm_readv, false},
    {"hardware_breakpoints", memprot_try_hardware_breakpoints, true},
    {"protection_keys", memprot_try_protection_keys, false},
    {"mseal", memprot_try_mseal, true},
    {"anonymous_names", memprot_try_anonymous_names, false},
    {"transparent_huge_pages", memprot_try_transparent_huge_pages, false},
    {"numa", memprot_try_numa, false},
    {"kernel_btf", memprot_try_kernel_btf, false},
    {"bpf", memprot_try_bpf, false},
    // Last, because what follows it in the same child could no longer make memory executable.
    {"mdwe", memprot_try_mdwe, true},
};
const size_t memprot_feature_count = sizeof memprot_features / sizeof *memprot_features;

static const time_t SECONDS_BEFORE_GIVING_UP = 10;

// Lies in a page shared with the child: what it found, and how far it came.
struct progress {
    atomic_size_t current;
    struct memprot_trial trials[];
};

// Runs in a forked child. Where a seccomp filter refuses one of these calls a death is only noisier, so that
// their results change nothing.
static void prepare_to_die_quietly(void) {
    // The program's handlers must not run here, on copies of its data.
    const int unexpected[] = {SIGSEGV, SIGBUS, SIGTRAP, SIGSYS, SIGILL, SIGALRM};
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    for (size_t i = 0; i < sizeof unexpected / sizeof *unexpected; i++)
        sigaction(unexpected[i], &by_default, NULL);

    // A limit of 1 keeps even a core_pattern that pipes to a program from being started; 0 would not
    // (core(5)).
    struct rlimit no_core = {.rlim_cur = 1, .rlim_max = 1};
    if (setrlimit(RLIMIT_CORE, &no_core) < 0) {
        no_core.rlim_cur = no_core.rlim_max = 0;
        setrlimit(RLIMIT_CORE, &no_core);
    }

    struct itimerval patience = {.it_value.tv_sec = SECONDS_BEFORE_GIVING_UP};
    setitimer(ITIMER_REAL, &patience, NULL);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
}

// Runs in a forked child.
static _Noreturn void try_from(struct progress *progress, size_t first) {
    prepare_to_die_quietly();
    for (size_t i = first; i < memprot_feature_count; i++) {
        atomic_store(&progress->current, i);
        memprot_features[i].attempt(&progress->trials[i]);
    }
    atomic_store(&progress->current, memprot_feature_count);
    _exit(0);
}

// No exit signal: the program's SIGCHLD handler stays out of it, and SIG_IGN for SIGCHLD cannot reap the
// child before we do.
static pid_t clone_without_exit_signal(void) { return (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, NULL); }

// Returns 0, or the signal that killed the child, or -1 with errno set when somebody else has reaped it.
static int wait_for_clone(pid_t child) {
    int status;
    while (waitpid(child, &status, __WCLONE) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void try_in_this_process(struct progress *progress, size_t first, int clone_error) {
    for (size_t i = first; i < memprot_feature_count; i++) {
        if (memprot_features[i].only_in_child)
            progress->trials[i] = (struct memprot_trial){.error = clone_error, .step = "clone"};
        else
            memprot_features[i].attempt(&progress->trials[i]);
    }
}

static void try_all(struct progress *progress) {
    size_t first = 0;
    while (first < memprot_feature_count) {
        pid_t child = clone_without_exit_signal();
        if (child == 0)
            try_from(progress, first);
        if (child < 0) {
            try_in_this_process(progress, first, errno);
            return;
        }
        int killed_by = wait_for_clone(child);
        size_t reached = atomic_load(&progress->current);
        if (reached == memprot_feature_count)
            return;
        // This trial was the child's last; another child goes on with the next one.
        progress->trials[reached] = killed_by > 0 ? (struct memprot_trial){.signal = killed_by}
                                                  : (struct memprot_trial){.error = ECHILD, .step = "waitpid"};
        first = reached + 1;
    }
}

int memprot_try_features(struct memprot_trial *ret) {
    size_t trials_size = memprot_feature_count * sizeof *ret;
    size_t size = sizeof(struct progress) + trials_size;
    struct progress *progress = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return -1;

    // Blocked until the child is gone, so that no handler of the program ever starts in the child.
    sigset_t every, previous;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &previous);
    try_all(progress);
    pthread_sigmask(SIG_SETMASK, &previous, NULL);

    memcpy(ret, progress->trials, trials_size);
    return munmap(progress, size);
}
