// A process with an empty window of addresses, the arena, in which any system call and any access may be tried.
//
// It obeys requests on its standard input, as many at a time as come, and answers each on its standard output.
// START forks: what follows happens in the copy, until FINISH ends it; so each sequence of operations has a process of
// its own. The names of system calls, the flags and the layout of the arena are the asker's affair.
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum kind { START, FINISH, SYSTEM_CALL, PLACING_CALL, PROBE, MAPS, FILL, RIGHTS, HEAP, PAGES };
enum { PAGE = 4096, THREADS = 2, INPUT = 1 << 16, OUTPUT = 1 << 20 };

struct request {
    uint64_t kind;
    uint64_t number;
    uint64_t arguments[6];
};

struct answer {
    int64_t result;
    uint32_t error;
    uint32_t length;
};

// What a thread is to do, and what came of it.
struct errand {
    const struct request *request;
    struct touch touch;
    struct answer answer;
};

static uint64_t arena_start, arena_stop;
static int maps_file = -1, pagemap_file = -1;
static uint8_t output[OUTPUT];
static size_t output_used;
static struct errand errand;
static sem_t asked, answered;
static uint8_t input[INPUT];
static size_t input_used, input_taken;

static void die(const char *what) {
    static const char newline = '\n';
    if (write(STDERR_FILENO, what, strlen(what)) < 0 || write(STDERR_FILENO, &newline, 1) < 0)
        _exit(4);
    _exit(3);
}

static void flush(void) {
    for (size_t done = 0; done < output_used;) {
        ssize_t count = write(STDOUT_FILENO, output + done, output_used - done);
        if (count < 0)
            die("arena: the answers cannot be written");
        done += (size_t)count;
    }
    output_used = 0;
}

static void put(const void *bytes, size_t size) {
    if (output_used + size > OUTPUT)
        flush();
    memcpy(output + output_used, bytes, size);
    output_used += size;
}

static void put_answer(int64_t result, int error, size_t length) {
    struct answer answer = {result, (uint32_t)error, (uint32_t)length};
    put(&answer, sizeof answer);
}

// The next request; NULL when no more will come.
static const struct request *next_request(void) {
    while (input_used - input_taken < sizeof(struct request)) {
        flush();
        memmove(input, input + input_taken, input_used - input_taken);
        input_used -= input_taken;
        input_taken = 0;
        ssize_t count = read(STDIN_FILENO, input + input_used, INPUT - input_used);
        if (count < 0)
            die("arena: the requests cannot be read");
        if (count == 0)
            return NULL;
        input_used += (size_t)count;
    }
    const struct request *request = (const struct request *)(input + input_taken);
    input_taken += sizeof *request;
    return request;
}

static void call(const struct request *request) {
    const uint64_t *a = request->arguments;
    errno = 0;
    errand.answer.result = syscall((long)request->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    errand.answer.error = errand.answer.result == -1 ? (uint32_t)errno : 0;
}

static void perform(void) {
    const struct request *request = errand.request;
    if (request->kind == PROBE)
        probe_touch(&errand.touch);
    else if (request->kind == RIGHTS)
        errand.answer.result = probe_rights((int)request->arguments[0], (unsigned)request->arguments[1]);
    else
        call(request);
}

static void *obey_in_second_thread(void *unused) {
    for (;;) {
        while (sem_wait(&asked))
            continue;
        perform();
        sem_post(&answered);
    }
    return unused;
}

static void perform_in(uint64_t thread) {
    if (thread == 0) {
        perform();
        return;
    }
    sem_post(&asked);
    while (sem_wait(&answered))
        continue;
}

// arguments: arena start, arena stop, whether there is a second thread.
static void start(const struct request *request) {
    arena_start = request->arguments[0];
    arena_stop = request->arguments[1];
    maps_file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    pagemap_file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (maps_file < 0 || pagemap_file < 0)
        die("arena: /proc/self/maps or pagemap cannot be opened");
    if (probe_catch())
        die("arena: signals cannot be caught");
    pthread_t thread;
    if (request->arguments[2] && (sem_init(&asked, 0, 0) || sem_init(&answered, 0, 0) ||
                                  pthread_create(&thread, NULL, obey_in_second_thread, NULL)))
        die("arena: the second thread cannot be started");
    put_answer(getpid(), 0, 0);
}

// A mapping that the kernel put outside the arena goes at once: only what is inside is looked at.
static void call_and_keep_inside(const struct request *request) {
    call(request);
    uint64_t result = (uint64_t)errand.answer.result;
    if (errand.answer.result == -1 || (result >= arena_start && result < arena_stop))
        return;
    uint64_t length = request->arguments[request->number == SYS_mremap ? 2 : 1];
    if (syscall(SYS_munmap, result, length))
        die("arena: a mapping outside it cannot be removed");
}

// arguments: first address, number of pages, access, thread.
static void probe(const struct request *request) {
    const uint64_t *a = request->arguments;
    put_answer((int64_t)a[1], 0, a[1] * sizeof(struct touch_result));
    for (uint64_t page = 0; page < a[1]; page++) {
        errand.touch = (struct touch){.address = a[0] + page * PAGE, .access = (enum access)a[2]};
        perform_in(a[3]);
        put(&errand.touch.result, sizeof errand.touch.result);
    }
}

// The lines of the mappings that start inside [arguments[0], arguments[1]). The kernel gives whole lines, in pieces.
static void maps(const struct request *request) {
    static char text[INPUT], kept[OUTPUT / 2];
    size_t length = 0;
    bool past = false;
    if (lseek(maps_file, 0, SEEK_SET))
        die("arena: /proc/self/maps cannot be rewound");
    while (!past) {
        ssize_t count = read(maps_file, text, sizeof text);
        if (count < 0)
            die("arena: /proc/self/maps cannot be read");
        if (count == 0)
            break;
        for (char *line = text, *stop = text + count; line < stop && !past;) {
            char *next = (char *)memchr(line, '\n', (size_t)(stop - line)) + 1;
            uint64_t address = strtoull(line, NULL, 16);
            past = address >= request->arguments[1];
            if (address >= request->arguments[0] && !past) {
                if (length + (size_t)(next - line) > sizeof kept)
                    die("arena: too many mappings");
                memcpy(kept + length, line, (size_t)(next - line));
                length += (size_t)(next - line);
            }
            line = next;
        }
    }
    put_answer((int64_t)length, 0, length);
    put(kept, length);
}

// arguments: first address, number of pages. A byte each: whether it has a page, in memory or swapped out.
static void pages(const struct request *request) {
    static uint64_t entries[1024];
    uint64_t count = request->arguments[1];
    ssize_t size = (ssize_t)(count * sizeof *entries);
    off_t start = (off_t)(request->arguments[0] / PAGE * sizeof *entries);
    if (count > sizeof entries / sizeof *entries || pread(pagemap_file, entries, (size_t)size, start) != size)
        die("arena: /proc/self/pagemap cannot be read");
    put_answer((int64_t)count, 0, count);
    for (uint64_t page = 0; page < count; page++) {
        bool swapped_or_guard = entries[page] >> 62 & 1, guard = entries[page] >> 58 & 1;
        uint8_t there = entries[page] >> 63 || (swapped_or_guard && !guard);
        put(&there, 1);
    }
}

// Splits a mapping far from the arena until the process has arguments[0] mappings more.
static void fill(const struct request *request) {
    uint64_t wanted = request->arguments[0];
    size_t size = (wanted + 1) * PAGE;
    uint8_t *block = (uint8_t *)mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
        die("arena: no room to fill");
    for (uint64_t page = 1; page < wanted; page += 2)
        if (mprotect(block + page * PAGE, PAGE, PROT_READ))
            die("arena: filling failed");
    put_answer((int64_t)(uintptr_t)block, 0, 0);
}

// Moves the heap, which must be empty, to arguments[0].
static void heap(const struct request *request) {
    uint64_t heap_start = request->arguments[0];
    uint64_t inside = (uint64_t)(uintptr_t)&arena_start;
    struct prctl_mm_map map = {
        .start_code = inside,
        .end_code = inside + 1,
        .start_data = inside,
        .end_data = inside + 1,
        .start_brk = heap_start,
        .brk = heap_start,
        .start_stack = (uint64_t)(uintptr_t)__builtin_frame_address(0),
        .arg_start = inside,
        .arg_end = inside + 1,
        .env_start = inside,
        .env_end = inside + 1,
        .exe_fd = (uint32_t)-1,
    };
    int result = prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
    put_answer(result, result ? errno : 0, 0);
}

// Waits for the copy to end; how it died, if it did, is an answer of its own.
static void await(pid_t copy) {
    int status;
    if (waitpid(copy, &status, 0) != copy)
        die("arena: the copy cannot be waited for");
    if (status) {
        struct answer answer = {status, 0, (uint32_t)-1};
        put(&answer, sizeof answer);
    }
}

int main(void) {
    bool copy = false;
    for (const struct request *request; (request = next_request());) {
        errand.request = request;
        switch ((enum kind)request->kind) {
        case START: {
            flush();
            pid_t child = fork();
            if (child < 0)
                die("arena: no copy can be made");
            if (child == 0) {
                copy = true;
                start(request);
                break;
            }
            input_taken = input_used = 0; // they are the copy's
            await(child);
            break;
        }
        case FINISH:
            put_answer(0, 0, 0);
            flush();
            _exit(copy ? 0 : 5);
        case SYSTEM_CALL:
            perform_in(0);
            put_answer(errand.answer.result, (int)errand.answer.error, 0);
            break;
        case PLACING_CALL:
            call_and_keep_inside(request);
            put_answer(errand.answer.result, (int)errand.answer.error, 0);
            break;
        case PROBE:
            probe(request);
            break;
        case MAPS:
            maps(request);
            break;
        case PAGES:
            pages(request);
            break;
        case FILL:
            fill(request);
            break;
        case RIGHTS:
            errand.answer.result = 0;
            perform_in(request->arguments[2]);
            put_answer(errand.answer.result, 0, 0);
            break;
        case HEAP:
            heap(request);
            break;
        }
    }
    return 0;
}
