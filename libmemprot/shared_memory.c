#include "shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char FOLDER[] = "/dev/shm/";

enum { LONGEST_PATH = 4096 };

// The path of a name; -1 with errno set for one that no shared memory can have.
static int path_of(const char *name, char *ret) {
    name += strspn(name, "/");
    if (*name == '\0' || strchr(name, '/') != NULL) {
        errno = EINVAL;
        return -1;
    }
    if (snprintf(ret, LONGEST_PATH, "%s%s", FOLDER, name) >= LONGEST_PATH) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return 0;
}

int memprot_shm_open(const char *name, unsigned long flags, unsigned long mode) {
    char path[LONGEST_PATH];
    if (path_of(name, path) < 0)
        return -1;
    long fd = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0 && errno == EISDIR)
        // The folder's other entries are no shared memory.
        errno = EINVAL;
    return (int)fd;
}

int memprot_shm_unlink(const char *name) {
    char path[LONGEST_PATH];
    if (path_of(name, path) < 0) {
        if (errno == EINVAL)
            // What cannot be is not there.
            errno = ENOENT;
        return -1;
    }
    int status = unlink(path);
    if (status < 0 && errno == EPERM)
        // POSIX has only this one for somebody else's.
        errno = EACCES;
    return status;
}
