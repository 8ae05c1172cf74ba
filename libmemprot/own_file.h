// Reading a file of /proc when the process has no descriptor left.
#pragma once

/// Open a file for reading and give it to a function, also when every descriptor is in use.
///
/// Then the function runs in a process made for it, which shares the memory and so sees the same /proc/self/maps
/// and writes its result where the caller reads it, but has a table of descriptors and limits of its own. The
/// calling thread waits meanwhile, with all signals blocked.
///
/// @param[in] use gets the descriptor, which is closed afterwards, and the context; returns 0, or -1 with errno
/// set.
/// @return what use returned, or -1 with errno set by open(2): EMFILE or ENFILE where no such process can be
/// made.
int memprot_with_own_file(const char *path, int (*use)(int fd, void *context), void *context);
