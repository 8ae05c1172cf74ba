#include "own_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_SIZE = 1 << 16, MOST_TRIED = 1 << 12 };

struct errand {
    const char *path;
    int (*use)(int fd, void *context);
    void *context;
    struct rlimit limit;
    int status, error;
};

// Runs in a forked child. The limit and the table of descriptors are the child's own.
static int open_somehow(const struct errand *errand) {
    const struct rlimit all = {.rlim_cur = errand->limit.rlim_max, .rlim_max = errand->limit.rlim_max};
    int fd = -1;
    if (setrlimit(RLIMIT_NOFILE, &all) == 0)
        fd = open(errand->path, O_RDONLY | O_CLOEXEC);
    for (int i = 0; fd < 0 && (errno == EMFILE || errno == EBADF) && i < MOST_TRIED; i++) {
        if (close(i) == 0)
            fd = open(errand->path, O_RDONLY | O_CLOEXEC);
        else
            errno = EBADF;
    }
    if (fd < 0 && errno == EBADF)
        errno = EMFILE; // none may be open, or none is
    return fd;
}

// Runs in a forked child.
static int run_errand(void *argument) {
    struct errand *errand = argument;
    int fd = open_somehow(errand);
    errand->status = fd < 0 ? -1 : errand->use(fd, errand->context);
    errand->error = errno;
    return 0;
}

static int send(struct errand *errand) {
    // The caller's own stack: at the limit of mappings there may be no other memory.
    char stack[STACK_SIZE] __attribute__((aligned(64)));
    sigset_t all, before;
    int state;
    sigfillset(&all);
    if (getrlimit(RLIMIT_NOFILE, &errand->limit) < 0)
        return -1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    // Without a signal at its end, so that nobody else's handler or wait(2) hears of it.
    pid_t child = clone(run_errand, stack + sizeof stack, CLONE_VM | CLONE_VFORK, errand);
    int error = errno;
    if (child >= 0) {
        while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
            continue;
        error = errand->error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_setcancelstate(state, &state);
    errno = error;
    return child < 0 ? -1 : errand->status;
}

int memprot_with_own_file(const char *path, int (*use)(int fd, void *context), void *context) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        int status = use(fd, context);
        int error = errno;
        close(fd);
        errno = error;
        return status;
    }
    if (errno != EMFILE && errno != ENFILE)
        return -1;
    int full = errno;
    struct errand errand = {.path = path, .use = use, .context = context, .status = -2};
    int status = send(&errand);
    if (errand.status == -2) { // it never ran
        errno = full;
        return -1;
    }
    return status;
}
