#include "kept_file.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

void memprot_kept_file_init(struct memprot_kept_file *ret) { *ret = (struct memprot_kept_file){.fd = -1}; }

bool memprot_kept_file_is_open(const struct memprot_kept_file *file) {
    struct stat found;
    return file->fd >= 0 && fstat(file->fd, &found) == 0 && found.st_dev == file->device && found.st_ino == file->inode;
}

void memprot_kept_file_deinit(struct memprot_kept_file *file) {
    if (memprot_kept_file_is_open(file))
        close(file->fd);
    memprot_kept_file_init(file);
}

int memprot_kept_file_set(struct memprot_kept_file *file, int fd) {
    struct stat found;
    memprot_kept_file_deinit(file);
    if (fstat(fd, &found) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *file = (struct memprot_kept_file){.fd = fd, .device = found.st_dev, .inode = found.st_ino};
    return 0;
}
