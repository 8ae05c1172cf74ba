// Faults that the user knows of and does not want to hear about: which these are, told from what the handler has
// written down.
#pragma once

#include "record.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/// Bits of memprot_suppression.kinds.
enum {
    MEMPROT_KIND_OVERFLOW = 1 << 0,
    MEMPROT_KIND_UNDERFLOW = 1 << 1,
    MEMPROT_KIND_USE_AFTER_FREE = 1 << 2,
    MEMPROT_KIND_DOUBLE_FREE = 1 << 3,
    MEMPROT_KIND_WILD_FREE = 1 << 4,
    MEMPROT_KIND_SLACK = 1 << 5,
    MEMPROT_KIND_PROTECTION = 1 << 6,
    MEMPROT_KIND_KEY = 1 << 7,
    MEMPROT_KIND_UNMAPPED = 1 << 8,
    MEMPROT_KIND_BUS = 1 << 9,
};

/// One frame of a stack, or any number of them. What is NULL may be anything. `*` stands for any text, `?` for one
/// character; a pattern without a slash is compared with the last part of a path.
struct memprot_suppression_frame {
    bool any_number;      ///< and then nothing else counts
    const char *library;  ///< of machine code
    const char *function; ///< of machine code or of Python
    const char *file;     ///< of Python
};

struct memprot_suppression {
    uint32_t kinds;    ///< MEMPROT_KIND_
    uint32_t accesses; ///< 1 << MEMPROT_READ and so on
    size_t count;
    const struct memprot_suppression_frame *frames; ///< from the innermost outwards; what lies further out is not asked
    _Atomic uint64_t matched;                       ///< faults that were taken over since it was set
};

struct memprot_suppressions {
    size_t count;
    struct memprot_suppression of[];
};

/// Has them hold from now on, in place of others. They stay as long as the process does.
void memprot_suppressions_set(struct memprot_suppressions *suppressions);

/// Whether there is one. May run in a signal handler.
bool memprot_suppressions_are_any(void);

/// The first one that a filled record matches; NULL where none does. The stack is that of machine code, innermost
/// first, and then that of Python. May run in a signal handler.
struct memprot_suppression *memprot_suppression_of(const struct memprot_record *record);

/// Whether a text has the form that a pattern says. May run in a signal handler.
bool memprot_pattern_matches(const char *pattern, const char *text);
