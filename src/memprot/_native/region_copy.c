#include "region_copy.h"

#include "engine.h"

#include "kernel_copy.h"
#include "key_rights.h"

#include <errno.h>

enum { LONG_COPY = 1 << 20 }; // bytes; other threads run meanwhile

// What has come on top of memprot's handlers, as far as it was seen, goes below at the next look; in a thread that
// blocks the signal the fault would be the end.
bool memprot_faults_are_answered(void) {
    if (memprot_handlers_were_changed() && memprot_engine_look() < 0)
        PyErr_Clear();
    return !memprot_handlers_were_changed() && !memprot_mask_blocks_faults();
}

// Without the interpreter, or short.
static void copy_by_instructions(struct memprot_copy *copy) {
    char *to = (char *)copy->to + copy->done;
    const char *from = (const char *)copy->from + copy->done;
    size_t length = copy->length - copy->done, left = memprot_access_copy(to, from, length);
    copy->done += length - left;
    if (left > 0) {
        copy->failure = *memprot_access_last_failure();
        copy->source = copy->failure.address - (uintptr_t)to >= length;
    }
}

void memprot_copy_by_kernel(struct memprot_copy *copy, bool read) {
    // The kernel's answer has no signal; why it is so is found out later.
    copy->failure = (struct memprot_access_failure){.signal = 0, .key = MEMPROT_NO_KEY};
    copy->source = read;
    int failed = read ? memprot_kernel_read(copy->to, (uintptr_t)copy->from, copy->length, &copy->done)
                      : memprot_kernel_write((uintptr_t)copy->to, copy->from, copy->length, &copy->done, &copy->source);
    if (failed && errno != EFAULT)
        copy_by_instructions(copy); // a sandbox forbids such calls
}

static void perform(struct memprot_copy *copy, bool permitted, bool read) {
    if (permitted)
        copy_by_instructions(copy);
    else
        memprot_copy_by_kernel(copy, read);
}

// The other memory may itself be protected.
void memprot_region_copy(Region *self, struct memprot_copy *copy, size_t offset, int prot) {
    bool permitted = memprot_region_permits(self, offset, copy->length, prot);
    self->exports++;
    if (copy->length >= LONG_COPY) {
        Py_BEGIN_ALLOW_THREADS;
        perform(copy, permitted, prot == PROT_READ);
        Py_END_ALLOW_THREADS;
    } else {
        perform(copy, permitted, prot == PROT_READ);
    }
    self->exports--;
}
