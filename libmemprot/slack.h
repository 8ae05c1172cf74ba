// What lies between a block's end and the next guard: bytes that are nobody's, filled so that it shows who writes
// there. On the right that is what alignment leaves; on the left, what the block's last page has left.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// The slack behind a block: less than a page.
/// @return where it ends; @p stop where there is none.
uintptr_t memprot_slack_end(uintptr_t stop);

/// What was overwritten, from the first such byte to the last.
struct memprot_overwritten {
    uintptr_t address;
    size_t size;             // bytes; 0: nothing was
    unsigned char bytes[64]; // the first of them
};

/// Fills the slack of a block that ends at @p stop.
void memprot_slack_fill(uintptr_t stop);

/// The same for what was overwritten and told; where the page is forbidden meanwhile, it stays as it is.
void memprot_slack_mend(const struct memprot_overwritten *overwritten);

/// Looks at the slack of a block that ends at @p stop.
/// @param[in] wary its page may be forbidden: then nothing counts as overwritten.
void memprot_slack_look(uintptr_t stop, bool wary, struct memprot_overwritten *ret);
