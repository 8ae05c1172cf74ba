#include "trial.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// Runs in a forked child.
void memprot_trial_failed(struct memprot_trial *ret, const char *step) {
    ret->error = errno;
    ret->step = step;
}

// Runs in a forked child.
void memprot_trial_without_effect(struct memprot_trial *ret, const char *step) { ret->step = step; }

// May run in a signal handler.
size_t memprot_trial_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

// Runs in a forked child.
char *memprot_trial_map(struct memprot_trial *ret, size_t size) {
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start != MAP_FAILED)
        return start;
    memprot_trial_failed(ret, "mmap");
    return NULL;
}

// Runs in a forked child.
bool memprot_trial_readable(const void *address) {
    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, address, NULL, sizeof(uint64_t)) == 0;
}
