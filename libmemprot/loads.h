// Whether objects are loaded into the process, known without the dynamic linker's lock: dlopen(3), where objects import
// it, counts its calls (loads_*.S). The linker looks at who calls it, so what stands in between leaves no trace on the
// stack.
//
// The lock is not to be waited for with an interpreter in hand: callbacks of dl_iterate_phdr(3) that are written in
// Python hold it and wait for the interpreter.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/// Calls of dlopen that have begun.
extern _Atomic uint64_t memprot_loads_begun;

/// What they go on to; set before the first slot leads here.
extern _Atomic uintptr_t memprot_loads_original;

/// In dlopen's place. Not to be called.
void memprot_loads_watched_dlopen(void);
