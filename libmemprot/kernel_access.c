#include "kernel_access.h"

#include "backtrace.h"
#include "death.h"
#include "epoch.h"
#include "forbidden.h"
#include "guard_near.h"
#include "kernel_copy.h"
#include "learn.h"
#include "page.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
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

// Looks at the memory of one part that was not moved yet; without an obstacle to fill, only whether there can be one.
// May run in a signal handler.
static bool look(uintptr_t start, uintptr_t stop, bool write, struct obstacle *obstacle) {
    if (!obstacle)
        return memprot_forbidden_is_possible(start, stop);
    bool found = memprot_forbidden_find(start, stop, write, &obstacle->forbidden);
    obstacle->distance += (found ? obstacle->forbidden.address : stop) - start;
    obstacle->size = found ? stop - obstacle->forbidden.address : 0;
    return found;
}

// The list of parts is the program's; where the call failed, it may be what it failed for. May run in a signal handler.
static bool look_at_parts(const struct memprot_transfer *transfer, struct obstacle *obstacle) {
    struct iovec copy[PARTS_AT_ONCE];
    size_t skipped = transfer->done > 0 ? (size_t)transfer->done : 0, copied;
    for (size_t i = 0; i < transfer->count; i++) {
        const struct iovec *part = &transfer->parts[i];
        if (transfer->failed && !transfer->parts_are_ours) {
            size_t left = transfer->count - i, count = left < PARTS_AT_ONCE ? left : PARTS_AT_ONCE;
            if (i % PARTS_AT_ONCE == 0 && memprot_kernel_read(copy, (uintptr_t)part, count * sizeof *copy, &copied) < 0)
                return false;
            part = &copy[i % PARTS_AT_ONCE];
        }
        size_t over = skipped < part->iov_len ? skipped : part->iov_len;
        uintptr_t start = (uintptr_t)part->iov_base;
        skipped -= over;
        if (look(start + over, start + part->iov_len, transfer->access == MEMPROT_WRITE, obstacle))
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
    if (S_ISREG(status->st_mode) || S_ISBLK(status->st_mode))
        return distance < memprot_page_size(); // files take all
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
    record->contexts = 0;
    record->guard = overlay->backing == MEMPROT_BACKING_GUARD;
    uint8_t prot;
    if (!record->guard && forbidden->signal != SIGBUS &&
        memprot_learn_now(overlay, (forbidden->address - overlay->start) / memprot_page_size(), &prot))
        record->prot = prot;
    if (overlay->object)
        record->block = (struct memprot_block){.address = overlay->object, .size = overlay->object_size};
    if (record->guard)
        memprot_guard_block_near(forbidden->address, &record->block);
    if (memprot_fault_in_main_thread() || prctl(PR_GET_NAME, record->name) < 0)
        record->name[0] = '\0';
    record->call = transfer->call;
    record->transferred = transfer->done > 0 ? transfer->done : 0;
    record->pcs = memprot_backtrace(transfer->caller, record->pc, NULL, MEMPROT_RECORD_PCS, NULL);
}

// May run in a signal handler.
static void die(const struct memprot_transfer *transfer, const struct obstacle *obstacle) {
    const struct memprot_fault_hooks *hooks = memprot_fault_current_hooks();
    if (!hooks || !hooks->calls_kill)
        return;
    struct memprot_record *record = memprot_record_begin(true);
    if (record) {
        fill(record, transfer, obstacle);
        record->signal = SIGABRT;
    }
    memprot_fault_tell_end(record, obstacle->forbidden.overlay);
    abort();
}

// May run in a signal handler.
static void record(const struct memprot_transfer *transfer, const struct obstacle *obstacle) {
    struct memprot_overlay *overlay = obstacle->forbidden.overlay;
    struct memprot_ruling ruling = memprot_fault_rule(overlay);
    struct memprot_record *record = NULL;
    if (!memprot_policy_recovers(ruling.policy)) {
        die(transfer, obstacle);
        return;
    }
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
void memprot_kernel_access_judge(const struct memprot_transfer *transfer) {
    int error = errno, token = memprot_epoch_enter();
    struct obstacle obstacle = {.distance = 0};
    // What is cheap to ask comes first: most calls that move less than they may are no faults.
    if (look_at_parts(transfer, NULL) && (transfer->failed || could_go_on(transfer, 0)) &&
        look_at_parts(transfer, &obstacle) && (transfer->failed || could_go_on(transfer, obstacle.distance)))
        record(transfer, &obstacle);
    memprot_epoch_leave(token);
    errno = error;
}
