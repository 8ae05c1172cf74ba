// What stands between an object and a function does nothing but call it, look whether all was moved, and where it was
// not, whether anybody wants to know. It holds nothing during the call, which may block, be cancelled or never return.
#include "kernel_calls.h"

#include "fault.h"
#include "imports.h"
#include "kernel_access.h"
#include "kernel_copy.h"
#include "loads.h"
#include "signal_calls.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// Those that the headers declare only for code that asks to be checked, each with the size of the whole buffer.
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __pread_chk(int, void *, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void *, size_t, off_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, __SOCKADDR_ARG, socklen_t *);
size_t __fread_chk(void *, size_t, size_t, size_t, FILE *);
size_t __fread_unlocked_chk(void *, size_t, size_t, size_t, FILE *);

// X(name)
#define FUNCTIONS(X)                                                                                                   \
    X(read)                                                                                                            \
    X(pread)                                                                                                           \
    X(pread64)                                                                                                         \
    X(readv)                                                                                                           \
    X(preadv)                                                                                                          \
    X(preadv64)                                                                                                        \
    X(preadv2)                                                                                                         \
    X(preadv64v2)                                                                                                      \
    X(recv)                                                                                                            \
    X(recvfrom)                                                                                                        \
    X(recvmsg)                                                                                                         \
    X(write)                                                                                                           \
    X(pwrite)                                                                                                          \
    X(pwrite64)                                                                                                        \
    X(writev)                                                                                                          \
    X(pwritev)                                                                                                         \
    X(pwritev64)                                                                                                       \
    X(pwritev2)                                                                                                        \
    X(pwritev64v2)                                                                                                     \
    X(send)                                                                                                            \
    X(sendto)                                                                                                          \
    X(sendmsg)                                                                                                         \
    X(fread)                                                                                                           \
    X(fread_unlocked)                                                                                                  \
    X(fwrite)                                                                                                          \
    X(fwrite_unlocked)                                                                                                 \
    X(getrandom)                                                                                                       \
    X(getentropy)                                                                                                      \
    X(__read_chk)                                                                                                      \
    X(__pread_chk)                                                                                                     \
    X(__pread64_chk)                                                                                                   \
    X(__recv_chk)                                                                                                      \
    X(__recvfrom_chk)                                                                                                  \
    X(__fread_chk)                                                                                                     \
    X(__fread_unlocked_chk)

#define NUMBER(name) FUNCTION_##name,
enum { FUNCTIONS(NUMBER) FUNCTION_COUNT, COUNT = FUNCTION_COUNT + 5 };

static struct memprot_import imports[COUNT];

#define ORIGINAL(name)                                                                                                 \
    ((__typeof__(&name))atomic_load_explicit(&imports[FUNCTION_##name].original, memory_order_relaxed))

#define CALLER ((uintptr_t)__builtin_return_address(0))

enum { OWN_OFFSET = -1, NO_FILE = -1 };

// ---- calls that take one buffer, or parts

// Whether anything is left to ask of a call that has moved @p done bytes. May run in a signal handler.
static bool is_suspect(ssize_t done) {
    return (done > 0 || (done < 0 && errno == EFAULT)) && memprot_policy_may_record();
}

// Has the call judged if it failed or moved less than the parts hold. May run in a signal handler.
static void judge(const char *call, enum memprot_access access, int fd, const struct iovec *parts, size_t count,
                  bool parts_are_ours, size_t size, off_t offset, ssize_t done, uintptr_t caller) {
    if (done < 0 || (size_t)done < size)
        memprot_kernel_access_judge(&(struct memprot_transfer){.call = call,
                                                               .access = access,
                                                               .parts = parts,
                                                               .parts_are_ours = parts_are_ours,
                                                               .count = count,
                                                               .done = done,
                                                               .failed = done < 0,
                                                               .fd = fd,
                                                               .offset = offset,
                                                               .caller = caller});
}

// May run in a signal handler.
static ssize_t one(const char *call, enum memprot_access access, int fd, const void *buffer, size_t size, off_t offset,
                   ssize_t done, uintptr_t caller) {
    if (is_suspect(done))
        judge(call, access, fd, &(struct iovec){(void *)buffer, size}, 1, true, size, offset, done, caller);
    return done;
}

// May run in a signal handler.
static ssize_t several(const char *call, enum memprot_access access, int fd, const struct iovec *parts, size_t count,
                       off_t offset, ssize_t done, uintptr_t caller) {
    if (!is_suspect(done))
        return done;
    size_t size = 0;
    for (size_t i = 0; done > 0 && i < count; i++) // the kernel has just read them
        size += parts[i].iov_len;
    judge(call, access, fd, parts, count, false, size, offset, done, caller);
    return done;
}

// The message itself may be what the call failed for. May run in a signal handler.
static ssize_t message(const char *call, enum memprot_access access, int fd, const struct msghdr *given, ssize_t done,
                       uintptr_t caller) {
    struct msghdr copy;
    size_t copied;
    if (!is_suspect(done))
        return done;
    int error = errno;
    bool readable = memprot_kernel_read(&copy, (uintptr_t)given, sizeof copy, &copied) == 0;
    errno = error;
    return readable ? several(call, access, fd, copy.msg_iov, copy.msg_iovlen, OWN_OFFSET, done, caller) : done;
}

// Functions of the same parameters.
#define ONE(name, plain, access, type)                                                                                 \
    static ssize_t watched_##name(int fd, type *buffer, size_t size) {                                                 \
        return one(plain, access, fd, buffer, size, OWN_OFFSET, ORIGINAL(name)(fd, buffer, size), CALLER);             \
    }
#define ONE_AT(name, plain, access, type)                                                                              \
    static ssize_t watched_##name(int fd, type *buffer, size_t size, off_t offset) {                                   \
        return one(plain, access, fd, buffer, size, offset, ORIGINAL(name)(fd, buffer, size, offset), CALLER);         \
    }
#define PARTS(name, plain, access)                                                                                     \
    static ssize_t watched_##name(int fd, const struct iovec *parts, int count) {                                      \
        return several(plain, access, fd, parts, (size_t)count, OWN_OFFSET, ORIGINAL(name)(fd, parts, count), CALLER); \
    }
#define PARTS_AT(name, plain, access)                                                                                  \
    static ssize_t watched_##name(int fd, const struct iovec *parts, int count, off_t offset) {                        \
        return several(plain, access, fd, parts, (size_t)count, offset, ORIGINAL(name)(fd, parts, count, offset),      \
                       CALLER);                                                                                        \
    }
#define PARTS_AT_WITH_FLAGS(name, plain, access)                                                                       \
    static ssize_t watched_##name(int fd, const struct iovec *parts, int count, off_t offset, int flags) {             \
        return several(plain, access, fd, parts, (size_t)count, offset,                                                \
                       ORIGINAL(name)(fd, parts, count, offset, flags), CALLER);                                       \
    }

ONE(read, "read", MEMPROT_WRITE, void)
ONE(write, "write", MEMPROT_READ, const void)
ONE_AT(pread, "pread", MEMPROT_WRITE, void)
ONE_AT(pread64, "pread", MEMPROT_WRITE, void)
ONE_AT(pwrite, "pwrite", MEMPROT_READ, const void)
ONE_AT(pwrite64, "pwrite", MEMPROT_READ, const void)
PARTS(readv, "readv", MEMPROT_WRITE)
PARTS(writev, "writev", MEMPROT_READ)
PARTS_AT(preadv, "preadv", MEMPROT_WRITE)
PARTS_AT(preadv64, "preadv", MEMPROT_WRITE)
PARTS_AT(pwritev, "pwritev", MEMPROT_READ)
PARTS_AT(pwritev64, "pwritev", MEMPROT_READ)
PARTS_AT_WITH_FLAGS(preadv2, "preadv2", MEMPROT_WRITE)
PARTS_AT_WITH_FLAGS(preadv64v2, "preadv2", MEMPROT_WRITE)
PARTS_AT_WITH_FLAGS(pwritev2, "pwritev2", MEMPROT_READ)
PARTS_AT_WITH_FLAGS(pwritev64v2, "pwritev2", MEMPROT_READ)

// ---- sockets

// A short count says something only of a plain transfer: what was peeked at is still there.
enum { PLAIN = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL | MSG_MORE | MSG_CMSG_CLOEXEC };

// May run in a signal handler.
static bool is_plain(int flags, ssize_t done) { return done < 0 || !(flags & ~PLAIN); }

#define WITH_FLAGS(name, plain, access, type)                                                                          \
    static ssize_t watched_##name(int fd, type *buffer, size_t size, int flags) {                                      \
        ssize_t done = ORIGINAL(name)(fd, buffer, size, flags);                                                        \
        return is_plain(flags, done) ? one(plain, access, fd, buffer, size, OWN_OFFSET, done, CALLER) : done;          \
    }
#define MESSAGE(name, plain, access, type)                                                                             \
    static ssize_t watched_##name(int fd, type *given, int flags) {                                                    \
        ssize_t done = ORIGINAL(name)(fd, given, flags);                                                               \
        return is_plain(flags, done) ? message(plain, access, fd, given, done, CALLER) : done;                         \
    }

WITH_FLAGS(recv, "recv", MEMPROT_WRITE, void)
WITH_FLAGS(send, "send", MEMPROT_READ, const void)
MESSAGE(recvmsg, "recvmsg", MEMPROT_WRITE, struct msghdr)
MESSAGE(sendmsg, "sendmsg", MEMPROT_READ, const struct msghdr)

static ssize_t watched_recvfrom(int fd, void *buffer, size_t size, int flags, __SOCKADDR_ARG from, socklen_t *length) {
    ssize_t done = ORIGINAL(recvfrom)(fd, buffer, size, flags, from, length);
    return is_plain(flags, done) ? one("recvfrom", MEMPROT_WRITE, fd, buffer, size, OWN_OFFSET, done, CALLER) : done;
}

static ssize_t watched_sendto(int fd, const void *buffer, size_t size, int flags, __CONST_SOCKADDR_ARG to,
                              socklen_t length) {
    ssize_t done = ORIGINAL(sendto)(fd, buffer, size, flags, to, length);
    return is_plain(flags, done) ? one("sendto", MEMPROT_READ, fd, buffer, size, OWN_OFFSET, done, CALLER) : done;
}

// ---- streams: the library reads and writes long buffers where they lie, and tells of a failure by a short count

// Whether the call failed for what it was given, which only errno says; it keeps its value otherwise. May run in a
// signal handler.
static size_t items(const char *call, enum memprot_access access, const void *buffer, size_t size, size_t count,
                    size_t done, int error, uintptr_t caller) {
    if (done < count && errno == EFAULT && memprot_policy_may_record()) {
        struct iovec part = {(void *)buffer, size * count};
        memprot_kernel_access_judge(&(struct memprot_transfer){.call = call,
                                                               .access = access,
                                                               .parts = &part,
                                                               .parts_are_ours = true,
                                                               .count = 1,
                                                               .done = (ssize_t)(size * done),
                                                               .failed = true,
                                                               .fd = NO_FILE,
                                                               .caller = caller});
    }
    if (errno == 0)
        errno = error;
    return done;
}

#define STREAM(name, plain, access, type)                                                                              \
    static size_t watched_##name(type *buffer, size_t size, size_t count, FILE *stream) {                              \
        int error = errno;                                                                                             \
        errno = 0;                                                                                                     \
        return items(plain, access, buffer, size, count, ORIGINAL(name)(buffer, size, count, stream), error, CALLER);  \
    }

STREAM(fread, "fread", MEMPROT_WRITE, void)
STREAM(fread_unlocked, "fread", MEMPROT_WRITE, void)
STREAM(fwrite, "fwrite", MEMPROT_READ, const void)
STREAM(fwrite_unlocked, "fwrite", MEMPROT_READ, const void)

// ---- random bytes

static ssize_t watched_getrandom(void *buffer, size_t size, unsigned flags) {
    ssize_t done = ORIGINAL(getrandom)(buffer, size, flags);
    return one("getrandom", MEMPROT_WRITE, NO_FILE, buffer, size, OWN_OFFSET, done, CALLER);
}

static int watched_getentropy(void *buffer, size_t size) {
    int failed = ORIGINAL(getentropy)(buffer, size);
    if (failed)
        one("getentropy", MEMPROT_WRITE, NO_FILE, buffer, size, OWN_OFFSET, failed, CALLER);
    return failed;
}

// ---- the same, with the size of the whole buffer checked by the library

static ssize_t watched___read_chk(int fd, void *buffer, size_t size, size_t whole) {
    ssize_t done = ORIGINAL(__read_chk)(fd, buffer, size, whole);
    return one("read", MEMPROT_WRITE, fd, buffer, size, OWN_OFFSET, done, CALLER);
}

#define CHECKED_AT(name)                                                                                               \
    static ssize_t watched_##name(int fd, void *buffer, size_t size, off_t offset, size_t whole) {                     \
        ssize_t done = ORIGINAL(name)(fd, buffer, size, offset, whole);                                                \
        return one("pread", MEMPROT_WRITE, fd, buffer, size, offset, done, CALLER);                                    \
    }

CHECKED_AT(__pread_chk)
CHECKED_AT(__pread64_chk)

static ssize_t watched___recv_chk(int fd, void *buffer, size_t size, size_t whole, int flags) {
    ssize_t done = ORIGINAL(__recv_chk)(fd, buffer, size, whole, flags);
    return is_plain(flags, done) ? one("recv", MEMPROT_WRITE, fd, buffer, size, OWN_OFFSET, done, CALLER) : done;
}

static ssize_t watched___recvfrom_chk(int fd, void *buffer, size_t size, size_t whole, int flags, __SOCKADDR_ARG from,
                                      socklen_t *length) {
    ssize_t done = ORIGINAL(__recvfrom_chk)(fd, buffer, size, whole, flags, from, length);
    return is_plain(flags, done) ? one("recvfrom", MEMPROT_WRITE, fd, buffer, size, OWN_OFFSET, done, CALLER) : done;
}

#define CHECKED_STREAM(name)                                                                                           \
    static size_t watched_##name(void *buffer, size_t whole, size_t size, size_t count, FILE *stream) {                \
        int error = errno;                                                                                             \
        errno = 0;                                                                                                     \
        return items("fread", MEMPROT_WRITE, buffer, size, count, ORIGINAL(name)(buffer, whole, size, count, stream),  \
                     error, CALLER);                                                                                   \
    }

CHECKED_STREAM(__fread_chk)
CHECKED_STREAM(__fread_unlocked_chk)

// ---- the table

#define ROW(function)        {.name = #function, .replacement = (uintptr_t)watched_##function},
#define SIGNAL_ROW(function) {.name = #function, .replacement = (uintptr_t)memprot_watched_##function},
static struct memprot_import imports[COUNT] = {
    FUNCTIONS(ROW){.name = "dlopen", .replacement = (uintptr_t)memprot_loads_watched_dlopen},
    SIGNAL_ROW(sigaction) SIGNAL_ROW(signal) SIGNAL_ROW(pthread_sigmask) SIGNAL_ROW(sigprocmask)};

static _Atomic uint64_t loads_seen;

// How many calls of dlopen had begun when nothing new had been found so often: one may take its time in another thread.
enum { MOST_IN_VAIN = 16 };
static _Atomic uint64_t loads_known = UINT64_MAX;
static atomic_uint in_vain;

static void prepare(void) {
    memprot_imports_prepare(imports, COUNT);
    atomic_store(&memprot_loads_original, atomic_load(&imports[FUNCTION_COUNT].original));
}

bool memprot_kernel_calls_are_watched(void) {
    return atomic_load_explicit(&loads_known, memory_order_relaxed) == atomic_load(&memprot_loads_begun);
}

void memprot_kernel_calls_watch(void) {
    static pthread_once_t prepared = PTHREAD_ONCE_INIT;
    pthread_once(&prepared, prepare);
    uint64_t begun = atomic_load(&memprot_loads_begun);
    if (!memprot_imports_are_redirected(&loads_seen)) {
        memprot_imports_redirect(imports, COUNT, &loads_seen);
        atomic_store(&in_vain, 0);
    } else if (atomic_fetch_add(&in_vain, 1) >= MOST_IN_VAIN) {
        atomic_store(&loads_known, begun);
    }
}
