// A library that reads and writes for its caller, built in several ways of importing read and its like.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

long reader_read(int fd, void *buffer, size_t size) { return read(fd, buffer, size); }

long reader_write(int fd, const void *buffer, size_t size) { return write(fd, buffer, size); }

long reader_pread(int fd, void *buffer, size_t size, long offset) { return pread(fd, buffer, size, offset); }

// The linker looks in the folders that the calling library names.
void *reader_open(const char *name) { return dlopen(name, RTLD_NOW); }

// Where the compiler knows the size of the buffer, the C library is asked to check it.
_Alignas(65536) char reader_pages[2][65536];
long reader_checked_read(int fd, size_t size) { return read(fd, reader_pages, size); }

// errno after a call, of which nothing was set before.
int reader_errno(int fd, void *buffer, size_t size, int before) {
    errno = before;
    ssize_t done = read(fd, buffer, size);
    return done == (ssize_t)size ? errno : -errno;
}

size_t reader_fread(FILE *stream, void *buffer, size_t size, size_t count, int *error) {
    size_t done = fread(buffer, size, count, stream);
    *error = errno;
    return done;
}

struct task {
    int fd;
    void *buffer;
    size_t size;
    long done;
};

static void *read_once(void *argument) {
    struct task *task = argument;
    task->done = read(task->fd, task->buffer, task->size);
    return NULL;
}

// The same in a thread that knows nothing of Python.
long reader_read_elsewhere(int fd, void *buffer, size_t size) {
    struct task task = {fd, buffer, size, -1};
    pthread_t thread;
    if (pthread_create(&thread, NULL, read_once, &task) == 0)
        pthread_join(thread, NULL);
    return task.done;
}

static void *read_forever(void *fd) {
    char byte;
    for (;;)
        (void)!read(*(int *)fd, &byte, 1);
    return NULL;
}

// Whether a thread that waits in read ends when it is cancelled.
int reader_cancel(int fd) {
    pthread_t thread;
    void *result = NULL;
    if (pthread_create(&thread, NULL, read_forever, &fd))
        return -1;
    usleep(1000);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    return result == PTHREAD_CANCELED;
}

#ifdef OWN_WRITE
// Of a library that has its own idea of a function: nobody else's is called in its place.
ssize_t write(int fd, const void *buffer, size_t size) {
    (void)fd, (void)buffer;
    return (ssize_t)size + 1000;
}
#endif
