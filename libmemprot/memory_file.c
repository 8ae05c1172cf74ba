#include "memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

// May run in a signal handler.
int memprot_memory_file_open(const char *name, size_t length) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) // a filter may refuse the call: an unlinked file in the shared-memory file system is the same thing
        fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 && length > 0 && ftruncate(fd, (off_t)length) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    return fd;
}
