// Which kernel and CPU features work here: each is tried once in a child process that is thrown away
// afterwards.
#pragma once

#include "trial.h"

/// A feature and the way to try it.
struct memprot_feature {
    const char *name;
    void (*attempt)(struct memprot_trial *ret);
    /// It leaves the process changed for good, or takes over a signal, or could hang: only ever in a child.
    bool only_in_child;
};

extern const struct memprot_feature memprot_features[];
extern const size_t memprot_feature_count;

/// Try every feature of memprot_features.
///
/// The trials run in a child made for them, so that what cannot be undone (sealing, refusing executable
/// memory) and what may be deadly (a seccomp filter that kills) never reaches the calling process. The child
/// sends no SIGCHLD, is invisible to a plain wait(2), and runs no pthread_atfork handlers. Where no child can
/// be made, the trials that leave nothing behind run in the calling process and the others report the error
/// of clone(2).
///
/// @param[out] ret memprot_feature_count trials, in the order of memprot_features.
/// @return 0, or -1 with errno set when not even the page shared with the child could be mapped.
int memprot_try_features(struct memprot_trial *ret);
