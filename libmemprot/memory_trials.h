// Trials of what changes memory: protection, guards, seals, kinds of memory, its placement.
#pragma once

#include "trial.h"

void memprot_try_mprotect(struct memprot_trial *ret);
void memprot_try_madv_guard(struct memprot_trial *ret);
void memprot_try_memfd(struct memprot_trial *ret);
void memprot_try_memfd_noexec(struct memprot_trial *ret);
void memprot_try_memfd_secret(struct memprot_trial *ret);
void memprot_try_protection_keys(struct memprot_trial *ret);
void memprot_try_anonymous_names(struct memprot_trial *ret);
void memprot_try_transparent_huge_pages(struct memprot_trial *ret);
void memprot_try_numa(struct memprot_trial *ret);

/// Leaves a sealed page, for good.
void memprot_try_mseal(struct memprot_trial *ret);

/// Leaves a process that can make no memory executable, for good.
void memprot_try_mdwe(struct memprot_trial *ret);
