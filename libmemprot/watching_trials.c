#include "watching_trials.h"

#include "kernel_abi.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

// Runs in a forked child.
static bool catch_signal(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    sigset_t it;
    sigemptyset(&it);
    sigaddset(&it, number);
    return sigaction(number, &action, NULL) == 0 && sigprocmask(SIG_UNBLOCK, &it, NULL) == 0;
}

static char *volatile blocked_page;

// May run in a signal handler.
static void open_blocked_page(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    // Returning without opening it repeats the fault with the default action, which ends the child: that is
    // the answer then.
    if (info->si_addr == blocked_page)
        mprotect(blocked_page, memprot_trial_page_size(), PROT_READ | PROT_WRITE);
}

// Runs in a forked child.
void memprot_try_fault_signals(struct memprot_trial *ret) {
    blocked_page = memprot_trial_map(ret, memprot_trial_page_size());
    if (blocked_page == NULL)
        return;
    if (!catch_signal(SIGSEGV, open_blocked_page))
        memprot_trial_failed(ret, "sigaction(SIGSEGV)");
    else if (mprotect(blocked_page, memprot_trial_page_size(), PROT_READ) < 0)
        memprot_trial_failed(ret, "mprotect(PROT_READ)");
    else {
        *(volatile char *)blocked_page = 1;
        ret->available = *(volatile char *)blocked_page == 1;
    }
}

// Runs in a forked child.
static int open_userfaultfd(struct memprot_trial *ret, int flags, const char *call, uint64_t features) {
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
    if (fd < 0) {
        memprot_trial_failed(ret, call);
        return -1;
    }
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    memprot_trial_failed(ret, features == 0 ? "ioctl(UFFDIO_API)" : "ioctl(UFFDIO_API, UFFD_FEATURE_WP_ASYNC)");
    close(fd);
    return -1;
}

// Runs in a forked child.
void memprot_try_userfaultfd(struct memprot_trial *ret) {
    int fd = open_userfaultfd(ret, 0, "userfaultfd", 0);
    if (fd < 0)
        return;
    ret->available = true;
    close(fd);
}

// Runs in a forked child.
void memprot_try_userfaultfd_user_mode(struct memprot_trial *ret) {
    int fd = open_userfaultfd(ret, UFFD_USER_MODE_ONLY, "userfaultfd(UFFD_USER_MODE_ONLY)", 0);
    if (fd < 0)
        return;
    ret->available = true;
    close(fd);
}

// Runs in a forked child. Would hang on its write if write protection were not asynchronous after all.
void memprot_try_userfaultfd_wp_async(struct memprot_trial *ret) {
    const uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
    int fd = open_userfaultfd(ret, UFFD_USER_MODE_ONLY, "userfaultfd(UFFD_USER_MODE_ONLY)", features);
    char *page = fd < 0 ? NULL : memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    struct uffdio_range range = {.start = (uintptr_t)page, .len = memprot_trial_page_size()};
    struct uffdio_register registration = {.range = range, .mode = UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect protection = {.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    if (ioctl(fd, UFFDIO_REGISTER, &registration) < 0)
        memprot_trial_failed(ret, "ioctl(UFFDIO_REGISTER)");
    else if (ioctl(fd, UFFDIO_WRITEPROTECT, &protection) < 0)
        memprot_trial_failed(ret, "ioctl(UFFDIO_WRITEPROTECT)");
    else {
        *(volatile char *)page = 1;
        ret->available = true;
    }
}

// Runs in a forked child.
void memprot_try_pagemap_scan(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    *(volatile char *)page = 1;
    struct page_region found;
    struct pm_scan_arg scan = {
        .size = sizeof scan,
        .start = (uintptr_t)page,
        .end = (uintptr_t)page + memprot_trial_page_size(),
        .vec = (uintptr_t)&found,
        .vec_len = 1,
        .category_mask = PAGE_IS_PRESENT,
        .return_mask = PAGE_IS_PRESENT,
    };
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int regions = fd < 0 ? -1 : ioctl(fd, PAGEMAP_SCAN, &scan);
    if (regions < 0)
        memprot_trial_failed(ret, fd < 0 ? "open(/proc/self/pagemap)" : "ioctl(PAGEMAP_SCAN)");
    else if (regions == 0)
        memprot_trial_without_effect(ret, "ioctl(PAGEMAP_SCAN)");
    else
        ret->available = true;
    if (fd >= 0)
        close(fd);
    munmap(page, memprot_trial_page_size());
}

// Runs in a forked child. 1 or 0 as the page's soft-dirty bit (proc_pid_pagemap(5)), -1 with errno set.
static int soft_dirty(const char *page) {
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    uint64_t entry;
    ssize_t got = pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)page / memprot_trial_page_size() * sizeof entry));
    close(fd);
    return got == sizeof entry ? (int)(entry >> 55 & 1) : -1;
}

// Runs in a forked child.
void memprot_try_soft_dirty(struct memprot_trial *ret) {
    char *pages = memprot_trial_map(ret, 2 * memprot_trial_page_size());
    if (pages == NULL)
        return;
    memset(pages, 1, 2 * memprot_trial_page_size());
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        memprot_trial_failed(ret, "open(/proc/self/clear_refs)");
        return;
    }
    if (write(fd, "4", 1) < 0) {
        memprot_trial_failed(ret, "write(/proc/self/clear_refs)");
        return;
    }
    *(volatile char *)pages = 2;
    int written = soft_dirty(pages), untouched = soft_dirty(pages + memprot_trial_page_size());
    if (written < 0 || untouched < 0)
        memprot_trial_failed(ret, "read(/proc/self/pagemap)");
    else if (written == untouched)
        memprot_trial_without_effect(ret, "write(/proc/self/clear_refs)");
    else
        ret->available = true;
}

// Runs in a forked child.
void memprot_try_procmap_query(struct memprot_trial *ret) {
    struct procmap_query query = {.size = sizeof query, .query_addr = (uintptr_t)&query};
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        memprot_trial_failed(ret, "open(/proc/self/maps)");
        return;
    }
    if (ioctl(fd, PROCMAP_QUERY, &query) < 0)
        memprot_trial_failed(ret, "ioctl(PROCMAP_QUERY)");
    else
        ret->available = query.vma_start <= query.query_addr && query.query_addr < query.vma_end;
    close(fd);
}

// Runs in a forked child.
void memprot_try_proc_mem_write(struct memprot_trial *ret) {
    char *page = memprot_trial_map(ret, memprot_trial_page_size());
    if (page == NULL)
        return;
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        memprot_trial_failed(ret, "open(/proc/self/mem)");
    else if (mprotect(page, memprot_trial_page_size(), PROT_READ) < 0)
        memprot_trial_failed(ret, "mprotect(PROT_READ)");
    else if (pwrite(fd, "x", 1, (off_t)(uintptr_t)page) < 0)
        memprot_trial_failed(ret, "write(/proc/self/mem)");
    else
        ret->available = *(volatile char *)page == 'x';
    if (fd >= 0)
        close(fd);
    munmap(page, memprot_trial_page_size());
}

// Runs in a forked child.
void memprot_try_process_vm_readv(struct memprot_trial *ret) {
    char from = 1, to = 0;
    struct iovec local = {.iov_base = &to, .iov_len = 1}, remote = {.iov_base = &from, .iov_len = 1};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
        memprot_trial_failed(ret, "process_vm_readv");
    else
        ret->available = *(volatile char *)&to == 1;
}

static volatile int trap_code;
static volatile int breakpoint_fd;

// May run in a signal handler.
static void note_trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    trap_code = info->si_code;
    ioctl(breakpoint_fd, PERF_EVENT_IOC_DISABLE, 0);
}

// Runs in a forked child.
void memprot_try_hardware_breakpoints(struct memprot_trial *ret) {
    static volatile uint64_t watched;
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_BREAKPOINT,
        .size = sizeof attributes,
        .sample_period = 1,
        .bp_type = 2 /* HW_BREAKPOINT_W: linux/hw_breakpoint.h clashes with sys/ headers of some libcs */,
        .bp_addr = (uintptr_t)&watched,
        .bp_len = sizeof watched,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .remove_on_exec = 1,
        .sigtrap = 1,
    };
    if (!catch_signal(SIGTRAP, note_trap)) {
        memprot_trial_failed(ret, "sigaction(SIGTRAP)");
        return;
    }
    breakpoint_fd = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (breakpoint_fd < 0) {
        memprot_trial_failed(ret, "perf_event_open(PERF_TYPE_BREAKPOINT)");
        return;
    }
    watched = 1;
    if (trap_code == TRAP_PERF)
        ret->available = true;
    else
        memprot_trial_without_effect(ret, "perf_event_open(PERF_TYPE_BREAKPOINT)");
}

// Runs in a forked child.
void memprot_try_kernel_btf(struct memprot_trial *ret) {
    const uint16_t btf_magic = 0xeb9f;
    uint16_t magic = 0;
    int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        memprot_trial_failed(ret, "open(/sys/kernel/btf/vmlinux)");
        return;
    }
    if (read(fd, &magic, sizeof magic) < 0)
        memprot_trial_failed(ret, "read(/sys/kernel/btf/vmlinux)");
    else
        ret->available = magic == btf_magic;
    close(fd);
}

// Runs in a forked child.
void memprot_try_bpf(struct memprot_trial *ret) {
    // return 0;
    const struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
    attributes.insns = (uintptr_t)program;
    attributes.insn_cnt = sizeof program / sizeof *program;
    attributes.license = (uintptr_t)"GPL";
    int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
    if (fd < 0) {
        memprot_trial_failed(ret, "bpf(BPF_PROG_LOAD)");
        return;
    }
    ret->available = true;
    close(fd);
}
