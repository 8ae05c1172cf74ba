// SIGBUS: pages of a mapping that the kernel cannot give, and zeros laid over them.
#pragma once

#include "hole.h"
#include "overlay.h"

#include <signal.h>

enum memprot_bus_opening {
    MEMPROT_BUS_OPENED,
    MEMPROT_BUS_RETRY,   // zeros lie there already, for another thread
    MEMPROT_BUS_REFUSED, // not plain data, or the kernel said no
};

/// Whether the signal tells of memory found broken that nobody has touched yet: then no instruction is to blame, and
/// the interrupted code may be anything. May run in a signal handler.
bool memprot_bus_is_early(const siginfo_t *info);

/// Lays zeros over the page that faulted. Where the file has become shorter, over all that it lost with it, as far as
/// @p overlay or else the mapping goes; otherwise over up to @p window pages in @p direction (+1 or -1) that the kernel
/// cannot give either. A page that cannot be written (its file system is full) may still have bytes, which are then to
/// be read in the zeros' place.
/// @param overlay answers for the memory, which holds raw data; NULL: a file's mapping is taken for data when nothing
///                of the file is mapped as code.
/// May run in a signal handler.
enum memprot_bus_opening memprot_bus_open(const siginfo_t *info, bool write, const struct memprot_overlay *overlay,
                                          size_t window, int direction, struct memprot_hole **ret);

/// The same for one page of an overlay that cannot be opened because it has no bytes, and that then permits reading and
/// writing. May run in a signal handler.
enum memprot_bus_opening memprot_bus_open_blocked(uintptr_t address, struct memprot_hole **ret);
