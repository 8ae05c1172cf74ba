// Facts about our own memory that no file tells quickly: asked by calls that change nothing.
#pragma once

#include <stdint.h>

/// Ask whether the mapping that holds a page is sealed (mseal(2)), by moving the page to where it is.
/// @return 1 refused as sealed memory is, or by a seccomp filter; 0 not sealed; -1 with errno set where that
/// cannot be told (nothing is mapped there, huge pages). May run in a signal handler.
int memprot_seems_sealed(uintptr_t page);

/// Ask whether two more mappings would be too many, by moving a page that is nowhere.
/// @return 1 perhaps, or this kernel does not tell: count them; 0 no. May run in a signal handler.
int memprot_near_mapping_limit(void);
