// A descriptor kept open between questions, in a program that may close descriptors it did not open.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct memprot_kept_file {
    int fd; // -1: not opened yet
    dev_t device;
    ino_t inode;
};

/// Begin with no file.
void memprot_kept_file_init(struct memprot_kept_file *ret);

/// Close the file, unless its descriptor belongs to another file by now.
void memprot_kept_file_deinit(struct memprot_kept_file *file);

/// Keep a descriptor that was just opened, in place of the one before.
/// @param[in] fd becomes the file's. @return 0, or -1 with errno set, and fd closed.
int memprot_kept_file_set(struct memprot_kept_file *file, int fd);

/// Whether the descriptor still is of the file that was kept.
bool memprot_kept_file_is_open(const struct memprot_kept_file *file);
