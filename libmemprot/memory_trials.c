#include "memory_trials.h"

#include "kernel_abi.h"
#include "probe.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <unistd.h>

// Runs in a forked child.
void memprot_try_mprotect(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    if (mprotect(page, memprot_trial_page_size(), PROT_NONE) < 0)
        memprot_trial_failed(ret, "mprotect(PROT_NONE)");
    else if (memprot_trial_readable(page))
        memprot_trial_without_effect(ret, "mprotect(PROT_NONE)");
    else if (mprotect(page, memprot_trial_page_size(), PROT_READ | PROT_WRITE) < 0)
        memprot_trial_failed(ret, "mprotect(PROT_READ | PROT_WRITE)");
    else
        ret->available = memprot_trial_readable(page);
    munmap(page, memprot_trial_page_size());
}

// Runs in a forked child.
void memprot_try_madv_guard(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    if (madvise(page, memprot_trial_page_size(), MADV_GUARD_INSTALL) < 0)
        memprot_trial_failed(ret, "madvise(MADV_GUARD_INSTALL)");
    else if (memprot_trial_readable(page))
        memprot_trial_without_effect(ret, "madvise(MADV_GUARD_INSTALL)");
    else
        ret->available = true;
    munmap(page, memprot_trial_page_size());
}

// Runs in a forked child.
void memprot_try_mseal(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    if (syscall(SYS_mseal, page, memprot_trial_page_size(), 0) < 0)
        memprot_trial_failed(ret, "mseal");
    else if (mprotect(page, memprot_trial_page_size(), PROT_READ) == 0)
        memprot_trial_without_effect(ret, "mseal");
    else {
        ret->available = true;
        ret->value = memprot_seems_sealed((uintptr_t)page) == 1;
    }
}

// Runs in a forked child. Closes the descriptor, having mapped and written its first page.
static void try_file_in_memory(struct memprot_trial *ret, int fd, const char *call) {
    if (fd < 0) {
        memprot_trial_failed(ret, call);
        return;
    }
    char *page = MAP_FAILED;
    if (ftruncate(fd, (off_t)memprot_trial_page_size()) < 0)
        memprot_trial_failed(ret, "ftruncate");
    else if ((page = mmap(NULL, memprot_trial_page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        memprot_trial_failed(ret, "mmap");
    else {
        *(volatile char *)page = 1;
        ret->available = true;
        munmap(page, memprot_trial_page_size());
    }
    close(fd);
}

// Runs in a forked child.
void memprot_try_memfd(struct memprot_trial *ret) {
    try_file_in_memory(ret, memfd_create("memprot-trial", MFD_CLOEXEC), "memfd_create");
}

// Runs in a forked child.
void memprot_try_memfd_noexec(struct memprot_trial *ret) {
    try_file_in_memory(ret, memfd_create("memprot-trial", MFD_CLOEXEC | MFD_NOEXEC_SEAL),
                       "memfd_create(MFD_NOEXEC_SEAL)");
}

// Runs in a forked child.
void memprot_try_memfd_secret(struct memprot_trial *ret) {
    try_file_in_memory(ret, (int)syscall(SYS_memfd_secret, O_CLOEXEC), "memfd_secret");
}

// Runs in a forked child.
void memprot_try_protection_keys(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    int key = (int)syscall(SYS_pkey_alloc, 0, 0);
    if (key < 0)
        memprot_trial_failed(ret, "pkey_alloc");
    else if (syscall(SYS_pkey_mprotect, page, memprot_trial_page_size(), PROT_READ, key) < 0)
        memprot_trial_failed(ret, "pkey_mprotect");
    else
        ret->available = true;
    munmap(page, memprot_trial_page_size());
    if (key >= 0)
        syscall(SYS_pkey_free, key);
}

// Runs in a forked child.
void memprot_try_anonymous_names(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, memprot_trial_page_size(), "memprot-trial") < 0)
        memprot_trial_failed(ret, "prctl(PR_SET_VMA_ANON_NAME)");
    else
        ret->available = true;
    munmap(page, memprot_trial_page_size());
}

// Runs in a forked child.
void memprot_try_transparent_huge_pages(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    if (madvise(page, memprot_trial_page_size(), MADV_HUGEPAGE) < 0)
        memprot_trial_failed(ret, "madvise(MADV_HUGEPAGE)");
    else
        ret->available = true;
    munmap(page, memprot_trial_page_size());
}

// Runs in a forked child.
void memprot_try_numa(struct memprot_trial *ret) {
    unsigned long allowed[1024 / (8 * sizeof(unsigned long))] = {0};
    if (syscall(SYS_get_mempolicy, NULL, allowed, 8 * sizeof allowed, NULL, MPOL_F_MEMS_ALLOWED) < 0) {
        memprot_trial_failed(ret, "get_mempolicy(MPOL_F_MEMS_ALLOWED)");
        return;
    }
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        ret->value += __builtin_popcountl(allowed[i]);
    ret->available = ret->value > 1;
}

// Runs in a forked child.
void memprot_try_mdwe(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) < 0)
        memprot_trial_failed(ret, "prctl(PR_SET_MDWE)");
    else if (mprotect(page, memprot_trial_page_size(), PROT_READ | PROT_EXEC) == 0)
        memprot_trial_without_effect(ret, "prctl(PR_SET_MDWE)");
    else
        ret->available = true;
}
