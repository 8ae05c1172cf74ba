// Threads that fault, claim, restore and withdraw memory at once, without Python. Built with -fsanitize=thread it also
// says which accesses of the core race.
#include "armed.h"
#include "check.h"
#include "epoch.h"
#include "fault.h"
#include "page.h"
#include "ranges.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 200, PAGES = 24, FILLED = 7 };

static atomic_int wrong;
static _Atomic uint64_t told;

// Whoever claims here has faulted here.
static int describe(struct memprot_record *record, enum memprot_policy policy) {
    (void)policy;
    return record->thread;
}

static void deliver(int owner, enum memprot_policy policy) { (void)owner, (void)policy; }

static void die(const struct memprot_record *record, bool owned, const ucontext_t *context) {
    (void)record, (void)owned, (void)context;
    static const char text[] = "a fault was not recovered\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(TEST_FAILED);
}

static const struct memprot_fault_hooks hooks = {.describe = describe, .deliver = deliver, .die = die};

static bool is_own(const struct memprot_record *record, int owner, const void *closure) {
    (void)record;
    return owner == *(const int *)closure;
}

static int claim_own(void) {
    int thread = memprot_fault_thread(), records = 0;
    struct memprot_record *record;
    while ((record = memprot_record_claim(is_own, &thread)) != NULL) {
        if (record->thread != thread)
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&told, record->faults);
        records++;
        memprot_record_free(record);
    }
    return records;
}

static bool is_filled(const char *start, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (start[i] != FILLED)
            return false;
    }
    return true;
}

static void *work(void *unused) {
    (void)unused;
    size_t length = PAGES * memprot_page_size();
    void *(*volatile set)(void *, int, size_t) = memset;
    for (int round = 0; round < ROUNDS; round++) {
        char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(start, FILLED, length);
        mprotect(start, length, PROT_READ);
        struct memprot_overlay overlay;
        if (memprot_overlay_init(&overlay, (uintptr_t)start, PAGES, MEMPROT_BACKING_PRIVATE, MEMPROT_PAGE_REAL,
                                 PROT_READ) < 0 ||
            memprot_ranges_add((uintptr_t)start, (uintptr_t)start + length, &overlay) < 0)
            abort();
        set(start, 1, length);
        set(start + length / 2, 2, 1); // open already
        if (claim_own() != 1 || !is_filled(start, length))
            atomic_fetch_add(&wrong, 1);
        set(start, 1, length);
        if (memprot_armed_change(&overlay, 0, PAGES, PROT_READ) < 0 || !is_filled(start, length) || claim_own() != 1)
            atomic_fetch_add(&wrong, 1);
        set(start, 1, 1);
        memprot_ranges_remove(&overlay);
        memprot_record_close_pages(&overlay, 0, PAGES);
        if (!is_filled(start, length) || claim_own() != 1)
            atomic_fetch_add(&wrong, 1);
        memprot_overlay_deinit(&overlay);
        munmap(start, length);
    }
    return NULL;
}

static void *fork_again_and_again(void *over) {
    while (!atomic_load((atomic_bool *)over)) {
        pid_t child = fork();
        if (child == 0)
            _exit(memprot_record_waiting() == 0 ? 0 : 1); // this thread has none of its own
        int status = -1;
        if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
            atomic_fetch_add(&wrong, 1);
        usleep(2000);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS], forking[2];
    static atomic_bool over;
    memprot_fault_prepare();
    memprot_fault_set_hooks(&hooks);
    memprot_policy_of_process(MEMPROT_POLICY_RAISE);
    CHECK(memprot_fault_install() == 0, "the handlers cannot be installed");
    for (int i = 0; i < 2; i++)
        pthread_create(&forking[i], NULL, fork_again_and_again, &over);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(forking[i], NULL);
    CHECK(atomic_load(&wrong) == 0, "%d things went wrong", atomic_load(&wrong));
    CHECK(atomic_load(&told) == memprot_record_faults(), "%llu of %llu faults were told",
          (unsigned long long)atomic_load(&told), (unsigned long long)memprot_record_faults());
    CHECK(memprot_record_waiting() == 0, "%d records wait for nobody", memprot_record_waiting());
    CHECK(memprot_fault_uninstall(false) == 0, "the handlers stay");
    return failed_checks ? TEST_FAILED : TEST_PASSED;
}
