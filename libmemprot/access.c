#include "access.h"

// One row per instruction that may fault, written by the assembly beside it: offsets from the row's own
// fields.
struct row {
    int32_t start, stop, fixup;
};

extern const struct row memprot_access_rows[], memprot_access_rows_end[];

static _Thread_local struct memprot_access_failure failure;

// May run in a signal handler.
static uintptr_t resolve(const int32_t *field) { return (uintptr_t)field + (uintptr_t)(intptr_t)*field; }

// May run in a signal handler.
uintptr_t memprot_access_fixup(uintptr_t instruction) {
    for (const struct row *row = memprot_access_rows; row < memprot_access_rows_end; row++) {
        if (instruction >= resolve(&row->start) && instruction < resolve(&row->stop))
            return resolve(&row->fixup);
    }
    return 0;
}

// May run in a signal handler.
struct memprot_access_failure *memprot_access_last_failure(void) { return &failure; }
