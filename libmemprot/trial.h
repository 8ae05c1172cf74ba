// What came of trying one kernel or CPU feature, and what every trial needs.
// Trials run in a child of a threaded process: they call only what a signal handler may call.
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Begins as all zeros.
struct memprot_trial {
    /// The feature did what it is for.
    bool available;
    /// errno of the step that failed; 0 when every step was accepted.
    int error;
    /// The signal that killed the child in which the feature was tried, or 0.
    int signal;
    /// The step that failed or that changed nothing, or NULL. A string constant.
    const char *step;
    /// What the trial counted, where a feature is a number (memory nodes); otherwise 0.
    long value;
};

/// Record errno as the reason why there is no such feature.
void memprot_trial_failed(struct memprot_trial *ret, const char *step);

/// Record that a step was accepted and yet changed nothing.
void memprot_trial_without_effect(struct memprot_trial *ret, const char *step);

/// @return the size of a page in bytes.
size_t memprot_trial_page_size(void);

/// @return new private readable and writable zero pages, or NULL, which the trial then records.
char *memprot_trial_map(struct memprot_trial *ret, size_t size);

/// Ask the kernel whether 8 bytes, all zero, can be read there: no signal where they cannot, and no
/// descriptor needed.
bool memprot_trial_readable(const void *address);
