#include "own_maps.h"

#include "maps.h"
#include "query.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_int kept = -1; // whoever opens it first stores it, the others close theirs

static int descriptor(void) {
    int fd = atomic_load(&kept);
    if (fd >= 0)
        return fd;
    fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    int none = -1;
    if (fd >= 0 && !atomic_compare_exchange_strong(&kept, &none, fd)) {
        close(fd);
        fd = none;
    }
    return fd;
}

// For kernels that answer no such question.
static int next_by_text(int fd, uint64_t address, struct memprot_mapping *ret) {
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
    int fd = descriptor();
    if (fd < 0)
        return -1;
    int answer = memprot_maps_query_next(fd, address, ret, NULL, 0);
    return answer < 0 && errno == ENOTTY ? next_by_text(fd, address, ret) : answer;
}

void memprot_own_maps_close(void) {
    int fd = atomic_exchange(&kept, -1);
    if (fd >= 0)
        close(fd);
}
