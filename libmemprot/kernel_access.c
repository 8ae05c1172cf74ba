#include "kernel_access.h"

#include "backtrace.h"
#include "epoch.h"
#include "fault.h"
#include "forbidden.h"
#include "guard.h"
#include "kernel_copy.h"
#include "page.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PARTS_AT_ONCE = 32,
    COPY_STEP = 64, // bytes that a copy loop may leave before what is forbidden
};

// ---- where the forbidden byte lies

// What is forbidden, and how far behind the last byte that was moved.
struct obstacle {
    struct memprot_forbidden forbidden;
    size_t distance, size; // bytes
};

// May run in a signal handler.
static bool find_in_parts(const struct iovec *parts, size_t count, bool write, size_t *skipped, struct obstacle *ret) {
    for (size_t i = 0; i < count; i++) {
        uintptr_t start = (uintptr_t)parts[i].iov_base, stop = start + parts[i].iov_len;
        size_t over = *skipped < parts[i].iov_len ? *skipped : parts[i].iov_len;
        *skipped -= over;
        start += over;
        if (memprot_forbidden_find(start, stop, write, &ret->forbidden)) {
            ret->distance += ret->forbidden.address - start;
            ret->size = stop - ret->forbidden.address;
            return true;
        }
        ret->distance += stop - start;
    }
    return false;
}

// The list of parts is the program's, and it may be what the call failed for. May run in a signal handler.
static bool find(const struct memprot_transfer *transfer, struct obstacle *ret) {
    struct iovec parts[PARTS_AT_ONCE];
    size_t skipped = transfer->done > 0 ? (size_t)transfer->done : 0, copied;
    *ret = (struct obstacle){.distance = 0};
    for (size_t first = 0; first < transfer->count; first += PARTS_AT_ONCE) {
        size_t count = transfer->count - first < PARTS_AT_ONCE ? transfer->count - first : PARTS_AT_ONCE;
        if (memprot_kernel_read(parts, (uintptr_t)(transfer->parts + first), count * sizeof *parts, &copied) < 0)
            return false;
        if (find_in_parts(parts, count, transfer->access == MEMPROT_WRITE, &skipped, ret))
            return true;
    }
    return false;
}

// ---- whether it is why the call fell short

// May run in a signal handler.
static bool is_stream(int fd) {
    int type;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

// May run in a signal handler.
static bool file_has_more(const struct memprot_transfer *transfer, off_t size, size_t distance) {
    char byte;
    off_t at = transfer->offset < 0 ? lseek(transfer->fd, 0, SEEK_CUR) : transfer->offset + transfer->done;
    if (at < 0)
        return false;
    at += (off_t)distance;
    ssize_t count = pread(transfer->fd, &byte, 1, at);
    return count < 0 ? at < size : count == 1; // read directly, a file gives no single bytes
}

// Whether the kernel had more than it delivered, up to the byte that is forbidden. May run in a signal handler.
static bool has_more(const struct memprot_transfer *transfer, const struct stat *status, size_t distance) {
    int available;
    if (S_ISREG(status->st_mode) || S_ISBLK(status->st_mode))
        return file_has_more(transfer, status->st_size, distance);
    if (S_ISSOCK(status->st_mode) && !is_stream(transfer->fd))
        return false; // a message ends where it ends
    if (ioctl(transfer->fd, FIONREAD, &available) == 0)
        return available > 0 && (size_t)available > distance;
    return S_ISCHR(status->st_mode) && distance < COPY_STEP; // a source without end
}

// Whether the kernel would have taken more. May run in a signal handler.
static bool takes_more(const struct memprot_transfer *transfer, const struct stat *status, size_t distance) {
    if (!S_ISFIFO(status->st_mode) && !S_ISSOCK(status->st_mode))
        return distance < memprot_page_size();
    if (S_ISSOCK(status->st_mode) && !is_stream(transfer->fd))
        return false;
    struct pollfd waiting = {.fd = transfer->fd, .events = POLLOUT};
    return poll(&waiting, 1, 0) == 1 && waiting.revents == POLLOUT;
}

// The end of a file, a pipe with less in it and a socket that is full are no faults. May run in a signal handler.
static bool could_go_on(const struct memprot_transfer *transfer, size_t distance) {
    struct stat status;
    if (transfer->fd < 0)
        return distance < COPY_STEP;
    if (fstat(transfer->fd, &status) < 0)
        return false;
    return transfer->access == MEMPROT_WRITE ? has_more(transfer, &status, distance)
                                             : takes_more(transfer, &status, distance);
}

// ---- the record

// May run in a signal handler.
static void fill(struct memprot_record *record, const struct memprot_transfer *transfer,
                 const struct obstacle *obstacle) {
    const struct memprot_forbidden *forbidden = &obstacle->forbidden;
    struct memprot_overlay *overlay = forbidden->overlay;
    record->thread = memprot_fault_thread();
    record->signal = forbidden->signal == SIGBUS ? SIGBUS : 0;
    record->code = 0;
    record->key = MEMPROT_NO_KEY;
    record->access = transfer->access;
    record->address = forbidden->address;
    record->size = obstacle->size;
    record->guard = overlay->backing == MEMPROT_BACKING_GUARD;
    if (overlay->object)
        record->block = (struct memprot_block){overlay->object, overlay->object_size, 0};
    if (record->guard)
        memprot_guard_block_near(forbidden->address, &record->block);
    if (memprot_fault_in_main_thread() || prctl(PR_GET_NAME, record->name) < 0)
        record->name[0] = '\0';
    record->call = transfer->call;
    record->transferred = transfer->done > 0 ? transfer->done : 0;
    record->pcs = memprot_backtrace(transfer->caller, record->pc, MEMPROT_RECORD_PCS);
}

// May run in a signal handler.
static void record(const struct memprot_transfer *transfer, const struct obstacle *obstacle) {
    struct memprot_overlay *overlay = obstacle->forbidden.overlay;
    struct memprot_ruling ruling = memprot_fault_rule(overlay);
    struct memprot_record *record = NULL;
    if (!memprot_policy_recovers(ruling.policy))
        return;
    record = memprot_record_begin(false);
    if (!record && (record = memprot_record_hold_similar(memprot_fault_thread(), overlay, &ruling))) {
        record->folded++;
        memprot_record_count(record);
        memprot_record_unhold(record);
        return;
    }
    if (!record && !(record = memprot_record_begin(true)))
        return;
    fill(record, transfer, obstacle);
    memprot_fault_report(record, &ruling);
}

// May run in a signal handler.
bool memprot_kernel_access_judge(const struct memprot_transfer *transfer) {
    int error = errno, token = memprot_epoch_enter();
    struct obstacle obstacle;
    bool guilty = find(transfer, &obstacle) && (transfer->failed || could_go_on(transfer, obstacle.distance));
    if (guilty)
        record(transfer, &obstacle);
    memprot_epoch_leave(token);
    errno = error;
    return guilty;
}
