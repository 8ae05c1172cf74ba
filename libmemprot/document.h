// Files that are replaced as a whole.
#pragma once

#include <sys/uio.h>

/// Write a file so that whoever opens it finds the old document or the new one, never a part of either.
/// A path that leads to something else than a regular file (a pipe, a terminal) is written to as it is, and
/// so is a file in a folder where no other can be made.
/// @param[in] parts the document, in order.
/// @return 0, or -1 with errno set. May run in a signal handler.
int memprot_write_document(const char *path, const struct iovec *parts, int count);
