// Copying between a Region and other memory: by instructions where they are likely to succeed, by the kernel where they
// are not.
#pragma once

#include "region.h"

#include "access.h"
#include "page.h"
#include "signal_calls.h"

#include <sys/mman.h>

/// One copy, and how it ended.
struct memprot_copy {
    void *to;
    const void *from;
    size_t length, done;
    bool source; // what was read ended it, not what was written
    struct memprot_access_failure failure;
};

/// Whether an instruction that faults ends in memprot's handlers.
bool memprot_faults_are_answered(void);

/// Whether the protection of the pages, as far as it is remembered, permits the access. What it forbids is left to the
/// kernel, which copies without a signal; what it permits is done by instructions, which fault where others have
/// changed the protection, where the file has become shorter, or where a key forbids it.
static inline bool memprot_region_permits(const Region *self, size_t offset, size_t length, int prot) {
    uintptr_t start = self->address - self->data_start + offset;
    for (size_t page = start >> memprot_page_shift; page <= (start + length - 1) >> memprot_page_shift; page++) {
        if (!(self->overlay->prot[page] & prot))
            return false;
    }
    return (!memprot_handlers_were_changed() && !memprot_mask_blocks_faults()) || memprot_faults_are_answered();
}

/// Copies by the kernel's hand. What is read from a Region goes to memory of ours.
void memprot_copy_by_kernel(struct memprot_copy *copy, bool read);

/// Copies to or from the bytes at @p offset, at least one; @p prot is what their pages need.
void memprot_region_copy(Region *self, struct memprot_copy *copy, size_t offset, int prot);

/// @return the byte, or -1 with what is known of the failure.
static inline int memprot_region_load(const Region *self, size_t index, struct memprot_access_failure *ret) {
    if (memprot_region_permits(self, index, 1, PROT_READ)) {
        int byte = memprot_access_load(self->address + index);
        if (byte < 0)
            *ret = *memprot_access_last_failure();
        return byte;
    }
    unsigned char byte;
    struct memprot_copy copy = {.to = &byte, .from = (void *)(self->address + index), .length = 1};
    memprot_copy_by_kernel(&copy, true);
    *ret = copy.failure;
    return copy.done ? byte : -1;
}

/// @return 0, or -1 with what is known of the failure.
static inline int memprot_region_store_byte(const Region *self, size_t index, unsigned char byte,
                                            struct memprot_access_failure *ret) {
    if (memprot_region_permits(self, index, 1, PROT_WRITE)) {
        int failed = memprot_access_store(self->address + index, byte);
        if (failed)
            *ret = *memprot_access_last_failure();
        return failed;
    }
    struct memprot_copy copy = {.to = (void *)(self->address + index), .from = &byte, .length = 1};
    memprot_copy_by_kernel(&copy, false);
    *ret = copy.failure;
    return copy.done ? 0 : -1;
}
