// The store-buffer litmus test: two threads, each stores to its own variable, does something, and loads the
// other's. A processor may keep a store back until after a later load, so both loads can miss both stores, which
// no interleaving of the four accesses explains; with a full barrier between store and load they cannot.
//
// A plain library, called through ctypes by tools/litmus.py. It knows nothing of Python.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// What a thread does between its store and its load. The order is that of Between in tools/litmus.py.
enum between {
    NOTHING,
    FENCE,
    MEMBARRIER,
    SYSTEM_CALL,        // the shortest there is
    MPROTECT_NO_BYTES,  // length 0: returns before it takes a lock
    MPROTECT_UNTOUCHED, // a page that was never touched: no page-table entry to change
    MPROTECT_TIGHTEN,   // a page of this thread alone loses the write permission: the TLBs must forget it
    MPROTECT_WIDEN,     // such a page gets it back: a TLB that remembers less does no harm
    MPROTECT_OF_STORED, // the page just stored to loses the write permission
};

enum { LINE = 64, MOST_BURDEN = 64, PAGES_OF_A_SIDE = 4, PAGES = 2 * PAGES_OF_A_SIDE + 1 };

struct thread {
    enum between between;
    char *own, *others; // pages with the variables: this thread stores to the first, loads from the second
    char *spare;        // a page of this thread alone
    _Atomic uint64_t *arrived, *others_arrived;
    uint8_t *fresh; // for each round, whether the load found the other's store
    struct test *test;
    uint64_t seed;
    int error;
};

struct test {
    uint64_t rounds, page;
    unsigned burden;
    char *burden_lines;
    struct thread sides[2];
};

static void pause_briefly(void) {
#if defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void full_fence(void) {
#if defined(__x86_64__)
    __asm__ volatile("mfence" ::: "memory");
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

// Both threads leave a round together, as nearly as two processors can.
static void meet(struct thread *thread, uint64_t round) {
    atomic_store_explicit(thread->arrived, round, memory_order_release);
    for (unsigned spins = 1; atomic_load_explicit(thread->others_arrived, memory_order_acquire) < round; spins++) {
        pause_briefly();
        // With one processor the other thread needs it to arrive at all.
        if (spins % 1024 == 0)
            sched_yield();
    }
    // One of them always leaves a little later; by how much is varied.
    thread->seed ^= thread->seed << 13;
    thread->seed ^= thread->seed >> 7;
    thread->seed ^= thread->seed << 17;
    for (unsigned wait = thread->seed % 64; wait > 0; wait--)
        __asm__ volatile("");
}

static long between(struct thread *thread) {
    uint64_t page = thread->test->page;
    switch (thread->between) {
    case FENCE:
        full_fence();
        return 0;
    case MEMBARRIER:
        return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    case SYSTEM_CALL:
        return syscall(SYS_getpid) < 0 ? -1 : 0;
    case MPROTECT_NO_BYTES:
        return mprotect(thread->spare, 0, PROT_READ);
    case MPROTECT_UNTOUCHED:
        return mprotect(thread->spare + page, page, PROT_READ);
    case MPROTECT_TIGHTEN:
        return mprotect(thread->spare, page, PROT_READ);
    case MPROTECT_WIDEN:
        return mprotect(thread->spare, page, PROT_READ | PROT_WRITE);
    case MPROTECT_OF_STORED:
        return mprotect(thread->own, page, PROT_READ);
    default:
        return 0;
    }
}

// Make everything as it was before `between`.
static int undo(struct thread *thread) {
    uint64_t page = thread->test->page;
    switch (thread->between) {
    case MPROTECT_UNTOUCHED:
        return mprotect(thread->spare + page, page, PROT_READ | PROT_WRITE);
    case MPROTECT_TIGHTEN:
        return mprotect(thread->spare, page, PROT_READ | PROT_WRITE);
    case MPROTECT_WIDEN:
        return mprotect(thread->spare, page, PROT_READ);
    case MPROTECT_OF_STORED:
        return mprotect(thread->own, page, PROT_READ | PROT_WRITE);
    default:
        return 0;
    }
}

static void *run_rounds(void *data) {
    struct thread *thread = data;
    struct test *test = thread->test;
    if (undo(thread))
        thread->error = errno;
    // The values are the numbers of the rounds: whatever is smaller is old, and nothing needs to be reset.
    for (uint64_t round = 1; round <= test->rounds; round++) {
        meet(thread, round);
        // Lines that the other processor has just written take their time to arrive, and stores wait in order.
        for (unsigned line = 0; line < test->burden; line++)
            *(volatile uint64_t *)(test->burden_lines + line * LINE) = round;
        *(volatile uint64_t *)thread->own = round;
        if (between(thread))
            thread->error = errno;
        thread->fresh[round - 1] = *(volatile uint64_t *)thread->others == round;
        if (undo(thread))
            thread->error = errno;
    }
    return NULL;
}

// The first side runs in a thread of its own, the second in the calling one.
static int run_both(struct test *test, const int cpus[2]) {
    cpu_set_t before, sets[2];
    for (int side = 0; side < 2; side++) {
        CPU_ZERO(&sets[side]);
        CPU_SET(cpus[side], &sets[side]);
    }
    if (sched_getaffinity(0, sizeof before, &before) || sched_setaffinity(0, sizeof sets[1], &sets[1]))
        return errno;
    pthread_attr_t attributes;
    pthread_t first;
    int error = pthread_attr_init(&attributes);
    if (!error) {
        error = pthread_attr_setaffinity_np(&attributes, sizeof sets[0], &sets[0]);
        if (!error)
            error = pthread_create(&first, &attributes, run_rounds, &test->sides[0]);
        if (!error) {
            run_rounds(&test->sides[1]);
            error = pthread_join(first, NULL);
        }
        pthread_attr_destroy(&attributes);
    }
    if (sched_setaffinity(0, sizeof before, &before))
        return errno;
    return error;
}

// Gives each side its pages of one block, and both the last page for the lines they contend for.
static void lay_out(struct test *test, const int kinds[2], char *block, uint8_t *fresh) {
    // Huge pages would bring along the page that must stay untouched. A kernel without them refuses, rightly.
    (void)madvise(block, PAGES * test->page, MADV_NOHUGEPAGE);
    test->burden_lines = block + 2 * PAGES_OF_A_SIDE * test->page;
    for (int side = 0; side < 2; side++) {
        char *pages = block + side * PAGES_OF_A_SIDE * test->page;
        char *others = block + !side * PAGES_OF_A_SIDE * test->page;
        test->sides[side] = (struct thread){
            .between = kinds[side],
            .own = pages,
            .others = others,
            .arrived = (_Atomic uint64_t *)(pages + test->page),
            .others_arrived = (_Atomic uint64_t *)(others + test->page),
            .spare = pages + 2 * test->page,
            .fresh = fresh + side * test->rounds,
            .test = test,
            .seed = 0x9e3779b97f4a7c15u + (uint64_t)side,
        };
        *test->sides[side].spare = 1;
    }
}

// Runs the test.
// @param kinds What each thread does between its store and its load, an enum between.
// @param cpus The processor for each thread; it may be the same one.
// @param burden How many contended lines each thread stores to before its variable, at most 64.
// @param ret How often each outcome was seen: [0] both loads found the old value, [1] only the first thread's load
// found the new one, [2] only the second's, [3] both.
// @return 0, or the errno of what failed.
int litmus_store_buffer(const int kinds[2], const int cpus[2], unsigned burden, uint64_t rounds, uint64_t ret[4]) {
    if (burden > MOST_BURDEN)
        return EINVAL;
    for (int side = 0; side < 2; side++)
        if (kinds[side] == MEMBARRIER && syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
            return errno;
    struct test test = {.rounds = rounds, .burden = burden, .page = (uint64_t)sysconf(_SC_PAGESIZE)};
    char *block = mmap(NULL, PAGES * test.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return errno;
    uint8_t *fresh = calloc(2, rounds);
    int error = fresh ? 0 : ENOMEM;
    if (!error) {
        lay_out(&test, kinds, block, fresh);
        error = run_both(&test, cpus);
    }
    for (int side = 0; !error && side < 2; side++)
        error = test.sides[side].error;
    for (uint64_t round = 0; !error && round < rounds; round++)
        ret[fresh[round] + 2 * fresh[rounds + round]]++;
    free(fresh);
    if (munmap(block, PAGES * test.page))
        return errno;
    return error;
}
