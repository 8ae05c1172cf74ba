// Trials of what watches memory: fault signals, breakpoints, dirty pages, reading and writing an address
// space, BPF.
#pragma once

#include "trial.h"

void memprot_try_userfaultfd(struct memprot_trial *ret);
void memprot_try_userfaultfd_user_mode(struct memprot_trial *ret);
void memprot_try_pagemap_scan(struct memprot_trial *ret);
void memprot_try_procmap_query(struct memprot_trial *ret);
void memprot_try_proc_mem_write(struct memprot_trial *ret);
void memprot_try_process_vm_readv(struct memprot_trial *ret);
void memprot_try_kernel_btf(struct memprot_trial *ret);
void memprot_try_bpf(struct memprot_trial *ret);

/// Takes over SIGSEGV.
void memprot_try_fault_signals(struct memprot_trial *ret);

/// Takes over SIGTRAP.
void memprot_try_hardware_breakpoints(struct memprot_trial *ret);

/// Would hang on its write where write protection were not asynchronous after all.
void memprot_try_userfaultfd_wp_async(struct memprot_trial *ret);

/// Resets the soft-dirty bits of the whole process.
void memprot_try_soft_dirty(struct memprot_trial *ret);
