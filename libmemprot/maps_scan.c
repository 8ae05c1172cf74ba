#include "maps_scan.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct reader {
    int fd;
    off_t position;
    size_t used, at;
    int error;
    char bytes[512]; // a handler's stack may be small
};

// The next character, or -1 at the end. May run in a signal handler.
static int take(struct reader *reader) {
    if (reader->at == reader->used) {
        ssize_t got;
        while ((got = pread(reader->fd, reader->bytes, sizeof reader->bytes, reader->position)) < 0 && errno == EINTR) {
        }
        if (got <= 0) {
            reader->error = got < 0 ? errno : 0;
            return -1;
        }
        reader->position += got;
        reader->used = (size_t)got;
        reader->at = 0;
    }
    return (unsigned char)reader->bytes[reader->at++];
}

// A number and the character behind it. May run in a signal handler.
static bool take_number(struct reader *reader, unsigned base, char end, uint64_t *ret) {
    static const char digits[] = "0123456789abcdef";
    *ret = 0;
    for (int c = take(reader); c != end; c = take(reader)) {
        const char *digit = c > 0 ? memchr(digits, c, base) : NULL;
        if (!digit)
            return false;
        *ret = *ret * base + (uint64_t)(digit - digits);
    }
    return true;
}

// May run in a signal handler.
static bool take_protection(struct reader *reader, struct memprot_mapping *ret) {
    static const char letters[] = "rwx";
    static const uint8_t bits[] = {PROT_READ, PROT_WRITE, PROT_EXEC};
    for (size_t i = 0; i < sizeof bits; i++) {
        int c = take(reader);
        if (c != letters[i] && c != '-')
            return false;
        ret->prot |= c == '-' ? 0 : bits[i];
    }
    ret->shared = take(reader) == 's';
    return take(reader) == ' ';
}

// The rest of the line, of which as much as there is room for is kept. May run in a signal handler.
static void take_path(struct reader *reader, struct memprot_mapping *ret, char *path, size_t capacity) {
    size_t length = 0;
    int c = take(reader);
    while (c == ' ')
        c = take(reader);
    for (; c >= 0 && c != '\n'; c = take(reader)) {
        if (length + 1 < capacity)
            path[length++] = (char)c;
    }
    if (capacity > 0) {
        path[length] = '\0';
        memprot_mapping_name(ret, path, length, true);
    }
}

// May run in a signal handler.
static bool take_line(struct reader *reader, uint64_t start, struct memprot_mapping *ret, char *path, size_t capacity) {
    uint64_t major, minor, inode;
    *ret = (struct memprot_mapping){.start = start};
    if (!take_number(reader, 16, ' ', &ret->stop) || !take_protection(reader, ret) ||
        !take_number(reader, 16, ' ', &ret->offset) || !take_number(reader, 16, ':', &major) ||
        !take_number(reader, 16, ' ', &minor))
        return false;
    inode = 0;
    int c = take(reader);
    for (; c >= '0' && c <= '9'; c = take(reader))
        inode = inode * 10 + (uint64_t)(c - '0');
    if (c == '\n')
        reader->at--;
    ret->device_major = (uint32_t)major;
    ret->device_minor = (uint32_t)minor;
    ret->inode = inode;
    take_path(reader, ret, path, capacity);
    return true;
}

// May run in a signal handler.
int memprot_maps_scan(int fd, uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity) {
    struct reader reader = {.fd = fd};
    uint64_t start;
    while (take_number(&reader, 16, '-', &start)) {
        if (!take_line(&reader, start, ret, path, capacity))
            break;
        if (ret->stop > address)
            return 1;
    }
    if (reader.error == 0 && reader.at == reader.used)
        return 0;
    errno = reader.error ? reader.error : EBADMSG;
    return -1;
}
