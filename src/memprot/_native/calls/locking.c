// Pages that stay in memory.
#include "call.h"

#include "docstrings.h"

#include <sys/syscall.h>

MEMPROT_CALL(mlock, memprot_call_none, .parameters = {"addr", "length"}, .required = 2, .count = 2, .number = SYS_mlock,
             .is_long = memprot_always_long)

MEMPROT_CALL(mlock2, memprot_call_none, .parameters = {"addr", "length", "flags"}, .required = 3, .count = 3,
             .number = SYS_mlock2, .is_long = memprot_always_long)

MEMPROT_CALL(munlock, memprot_call_none, .parameters = {"addr", "length"}, .required = 2, .count = 2,
             .number = SYS_munlock, .is_long = memprot_is_long_range)

MEMPROT_CALL(mlockall, memprot_call_none, .parameters = {"flags"}, .required = 1, .count = 1, .number = SYS_mlockall,
             .is_long = memprot_always_long)

MEMPROT_CALL(munlockall, memprot_call_none, .parameters = {NULL}, .number = SYS_munlockall,
             .is_long = memprot_always_long)

PyMethodDef memprot_locking_calls[] = {
    MEMPROT_METHOD(mlock),    MEMPROT_METHOD(mlock2),     MEMPROT_METHOD(munlock),
    MEMPROT_METHOD(mlockall), MEMPROT_METHOD(munlockall), {NULL, NULL, 0, NULL},
};
