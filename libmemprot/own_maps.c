#include "own_maps.h"

#include "maps.h"
#include "maps_scan.h"
#include "query.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

// The descriptor and the number of its file, by which it is known again: a program may close descriptors that it did
// not open, and the next file it opens is given theirs. One word, so that handlers see both at once; 0: none.
static _Atomic uint64_t kept;

// May run in a signal handler.
static int descriptor_of(uint64_t word) { return (int)(word >> 32) - 1; }

// 0 when it is not open. May run in a signal handler.
static uint64_t word_of(int fd) {
    struct stat found;
    return fstat(fd, &found) < 0 ? 0 : (uint64_t)(fd + 1) << 32 | (uint32_t)found.st_ino;
}

// May run in a signal handler.
static bool is_ours(uint64_t word) { return word != 0 && word_of(descriptor_of(word)) == word; }

// May run in a signal handler.
int memprot_own_maps_descriptor(void) {
    uint64_t word = atomic_load(&kept);
    if (is_ours(word))
        return descriptor_of(word);
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    uint64_t fresh = word_of(fd);
    if (fresh != 0 && atomic_compare_exchange_strong(&kept, &word, fresh))
        return fd;
    close(fd);
    return fresh == 0 ? -1 : descriptor_of(word); // another thread was faster, and this is what it keeps
}

// May run in a signal handler.
int memprot_own_maps_ask(uint64_t address, struct memprot_mapping *ret) {
    int fd = memprot_own_maps_descriptor();
    return fd < 0 ? -1 : memprot_maps_query_next(fd, address, ret, NULL, 0);
}

// May run in a signal handler.
int memprot_own_maps_find(uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity) {
    int fd = memprot_own_maps_descriptor();
    int answer = fd < 0 ? -1 : memprot_maps_query_next(fd, address, ret, path, capacity);
    return answer < 0 && fd >= 0 && errno == ENOTTY ? memprot_maps_scan(fd, address, ret, path, capacity) : answer;
}

// May run in a signal handler.
int memprot_own_maps_glance(uint64_t address, struct memprot_mapping *ret) {
    uint64_t word = atomic_load(&kept);
    return word == 0 ? -1 : memprot_maps_query_next(descriptor_of(word), address, ret, NULL, 0);
}

// For kernels that answer no such question.
static int next_by_text(uint64_t address, struct memprot_mapping *ret) {
    int fd = memprot_own_maps_descriptor();
    if (fd < 0)
        return -1;
    struct memprot_maps maps;
    memprot_maps_init(&maps);
    int answer = memprot_maps_read(fd, &maps);
    for (size_t i = 0; answer == 0 && i < maps.count; i++) {
        if (maps.mappings[i].stop > address) {
            *ret = maps.mappings[i];
            ret->path = NULL;
            answer = 1;
        }
    }
    int error = errno;
    memprot_maps_deinit(&maps);
    errno = error;
    return answer;
}

int memprot_own_maps_next(uint64_t address, struct memprot_mapping *ret) {
    int answer = memprot_own_maps_ask(address, ret);
    return answer < 0 && errno == ENOTTY ? next_by_text(address, ret) : answer;
}

// May run in a signal handler.
bool memprot_own_maps_is_open(void) { return is_ours(atomic_load(&kept)); }

void memprot_own_maps_close(void) {
    uint64_t word = atomic_exchange(&kept, 0);
    if (is_ours(word))
        close(descriptor_of(word));
}
