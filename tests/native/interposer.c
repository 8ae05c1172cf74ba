// Loaded before the C library: counts the calls of read that come by.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

long interposed_calls;

ssize_t read(int fd, void *buffer, size_t size) {
    ssize_t (*next)(int, void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "read");
    __atomic_fetch_add(&interposed_calls, 1, __ATOMIC_RELAXED);
    return next(fd, buffer, size);
}
