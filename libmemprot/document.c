#include "document.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// May run in a signal handler.
static int write_all(int file, const struct iovec *parts, int count) {
    for (int i = 0; i < count; i++) {
        const char *from = parts[i].iov_base;
        size_t left = parts[i].iov_len;
        while (left > 0) {
            ssize_t written = write(file, from, left);
            if (written < 0 && errno == EINTR)
                continue;
            if (written < 0)
                return -1;
            from += written;
            left -= (size_t)written;
        }
    }
    return 0;
}

// May run in a signal handler. Closes the file whatever happens; errno is that of the first failure.
static int write_and_close(int file, const struct iovec *parts, int count) {
    if (write_all(file, parts, count) < 0) {
        int error = errno;
        close(file);
        errno = error;
        return -1;
    }
    return close(file);
}

// May run in a signal handler.
static int write_in_place(const char *path, const struct iovec *parts, int count) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    return file < 0 ? -1 : write_and_close(file, parts, count);
}

// May run in a signal handler. The name of the file beside `path` that will take its place: no two processes
// share it.
static int name_beside(const char *path, char ret[PATH_MAX]) {
    static const char ending[] = ".part";
    size_t length = strlen(path);
    char digits[3 * sizeof(pid_t)];
    size_t first = sizeof digits;
    for (pid_t left = getpid(); left > 0; left /= 10)
        digits[--first] = (char)('0' + left % 10);
    if (length + 1 + sizeof digits - first + sizeof ending > PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(ret, path, length);
    ret[length++] = '.';
    memcpy(ret + length, digits + first, sizeof digits - first);
    memcpy(ret + length + sizeof digits - first, ending, sizeof ending);
    return 0;
}

// May run in a signal handler.
static int open_beside(const char *path, char name[PATH_MAX]) {
    if (name_beside(path, name) < 0)
        return -1;
    // One that is there already was left by a process that died in the middle and had our number.
    if (unlink(name) < 0 && errno != ENOENT)
        return -1;
    return open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

// May run in a signal handler.
int memprot_write_document(const char *path, const struct iovec *parts, int count) {
    char beside[PATH_MAX];
    struct stat old;
    int exists = stat(path, &old) == 0;
    if (exists && !S_ISREG(old.st_mode))
        return write_in_place(path, parts, count);
    int file = open_beside(path, beside);
    if (file < 0)
        return write_in_place(path, parts, count);
    if (exists && fchmod(file, old.st_mode & 07777) < 0) {
        close(file);
        unlink(beside);
        return write_in_place(path, parts, count);
    }
    if (write_and_close(file, parts, count) < 0 || rename(beside, path) < 0) {
        int error = errno;
        unlink(beside);
        errno = error;
        return -1;
    }
    return 0;
}
