#include "exit.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "document.h"

// Whoever takes the plan out of here owns it: no two threads write it, and none frees what another reads.
static _Atomic(struct memprot_exit *) current;
static atomic_flag registered = ATOMIC_FLAG_INIT;

// May run in a signal handler.
static struct iovec text(const char *string) {
    return (struct iovec){.iov_base = (void *)string, .iov_len = string == NULL ? 0 : strlen(string)};
}

// May run in a signal handler. At most 12 bytes with the sign.
static struct iovec decimal(int number, char digits[12]) {
    size_t first = 12;
    unsigned left = number < 0 ? -(unsigned)number : (unsigned)number;
    do
        digits[--first] = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (number < 0)
        digits[--first] = '-';
    return (struct iovec){.iov_base = digits + first, .iov_len = 12 - first};
}

// May run in a signal handler.
static int write_plan(const struct memprot_exit *plan, int status, struct iovec fault) {
    char digits[12];
    struct iovec parts[] = {
        text(plan->head),
        decimal(status, digits),
        text(plan->body),
        text(fault.iov_len == 0 ? NULL
             : plan->listed     ? ",\n  "
                                : "\n  "),
        fault,
        text("]}\n"),
    };
    return memprot_write_document(plan->path, parts, sizeof parts / sizeof *parts);
}

int memprot_exit_leave(int status) {
    struct memprot_exit *plan = atomic_exchange(&current, NULL);
    if (plan == NULL)
        return status;
    if (plan->pid == getpid()) {
        if ((status & 0xff) == 0 && plan->replacement != 0)
            status = plan->replacement;
        dprintf(STDERR_FILENO, "%s", plan->words);
        if (plan->path != NULL && write_plan(plan, status & 0xff, (struct iovec){0}) < 0)
            dprintf(STDERR_FILENO, "memprot: cannot write %s: %s\n", plan->path, strerror(errno));
    }
    free(plan);
    return status;
}

// May run in a signal handler.
int memprot_exit_die(int signal, const char *fault, size_t length) {
    struct memprot_exit *plan = atomic_exchange(&current, NULL);
    if (plan == NULL)
        return 0;
    int result = 0;
    if (plan->path != NULL && plan->pid == getpid())
        result = write_plan(plan, -signal, (struct iovec){.iov_base = (void *)fault, .iov_len = length});
    // Where another thread has set a newer one meanwhile, this one is lost: a handler cannot free it.
    struct memprot_exit *none = NULL;
    atomic_compare_exchange_strong(&current, &none, plan);
    return result;
}

static void at_exit(int status, void *unused) {
    (void)unused;
    int wanted = memprot_exit_leave(status);
    // exit(3) inside a handler goes on with the handlers that are left (atexit(3): on Linux), with the new
    // status.
    if (wanted != status)
        exit(wanted);
}

static const char *append(char **end, const char *string) {
    if (string == NULL)
        return NULL;
    size_t size = strlen(string) + 1;
    char *copy = memcpy(*end, string, size);
    *end += size;
    return copy;
}

int memprot_exit_set(const struct memprot_exit *plan) {
    size_t size = sizeof *plan + text(plan->path).iov_len + text(plan->head).iov_len + text(plan->body).iov_len +
                  text(plan->words).iov_len + 4;
    struct memprot_exit *copy = malloc(size);
    if (copy == NULL)
        return -1;
    *copy = *plan;
    char *end = (char *)(copy + 1);
    copy->path = append(&end, plan->path);
    copy->head = append(&end, plan->head);
    copy->body = append(&end, plan->body);
    copy->words = append(&end, plan->words);
    free(atomic_exchange(&current, copy));
    if (atomic_flag_test_and_set(&registered))
        return 0;
    if (on_exit(at_exit, NULL) != 0) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}
