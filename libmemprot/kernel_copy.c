#include "kernel_copy.h"

#include "page.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MOST_AT_ONCE = 1 << 20, BUFFER_SIZE = 4096 };

// May run in a signal handler.
static ssize_t move(uintptr_t address, uintptr_t buffer, size_t length, bool write) {
    struct iovec theirs = {(void *)address, length}, ours = {(void *)buffer, length};
    return write ? process_vm_readv(getpid(), &theirs, 1, &ours, 1, 0)
                 : process_vm_writev(getpid(), &theirs, 1, &ours, 1, 0);
}

// What is forbidden begins with a page, but the kernel may stop before it: where a part of the whole lies outside of
// all that a process can have, and where its copy loop does not finish a page. So the rest of the page is asked for by
// itself. May run in a signal handler.
static int copy(uintptr_t address, uintptr_t buffer, size_t length, bool write, size_t *done) {
    *done = 0;
    for (size_t most = MOST_AT_ONCE; *done < length;) {
        uintptr_t from = address + *done;
        size_t part = length - *done < most ? length - *done : most;
        ssize_t moved = move(from, buffer + *done, part, write);
        if (moved > 0) {
            *done += (size_t)moved;
            continue;
        }
        if (moved == 0)
            errno = EFAULT;
        size_t page_rest = memprot_page_size() - from % memprot_page_size();
        if (errno != EFAULT || part <= page_rest)
            return -1;
        most = page_rest;
    }
    return 0;
}

// May run in a signal handler.
int memprot_kernel_read(void *to, uintptr_t address, size_t length, size_t *done) {
    return copy(address, (uintptr_t)to, length, false, done);
}

// Which side has ended the copy is not told: the rest of the page goes by way of a buffer that is beyond doubt. May run
// in a signal handler.
static int write_page(uintptr_t address, uintptr_t from, size_t length, size_t *done, bool *unreadable) {
    char buffer[BUFFER_SIZE];
    size_t page_rest = memprot_page_size() - address % memprot_page_size(), got;
    size_t part = length < page_rest ? length : page_rest;
    part = part < sizeof buffer ? part : sizeof buffer;
    int failed = copy(from, (uintptr_t)buffer, part, false, &got);
    if (failed && got == 0) {
        *done = 0;
        *unreadable = true;
        return failed;
    }
    return copy(address, (uintptr_t)buffer, got, true, done);
}

// May run in a signal handler.
int memprot_kernel_write(uintptr_t address, const void *from, size_t length, size_t *done, bool *unreadable) {
    *unreadable = false;
    for (*done = 0; *done < length;) {
        size_t part;
        int failed = copy(address + *done, (uintptr_t)from + *done, length - *done, true, &part);
        *done += part;
        if (failed && errno == EFAULT) {
            failed = write_page(address + *done, (uintptr_t)from + *done, length - *done, &part, unreadable);
            *done += part;
        }
        if (failed)
            return -1;
    }
    return 0;
}
