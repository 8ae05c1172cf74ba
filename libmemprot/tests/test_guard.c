// Guard pools without Python: where blocks lie, what is told without a signal, and the order of the quarantine.
#include "check.h"
#include "fault.h"
#include "guard.h"
#include "guard_near.h"
#include "page.h"
#include "quarantine.h"
#include "slack.h"

#include <pthread.h>
#include <string.h>

enum { BLOCKS = 64, THREADS = 4, ROUNDS = 2000 };

static const struct memprot_origin nowhere;

static void *allocate(size_t size, size_t align, enum memprot_side side) {
    return memprot_guard_allocate(
        &(struct memprot_guard_request){.size = size, .align = align, .side = side, .owner = MEMPROT_GUARD_MALLOC});
}

static enum memprot_guard_freeing give_back(void *block) {
    return memprot_guard_free(block, MEMPROT_GUARD_MALLOC, &nowhere);
}

static void test_places(void) {
    for (size_t size = 1; size < 5 * memprot_page_size(); size += 37) {
        for (size_t align = 1; align <= memprot_page_size(); align *= 4) {
            uintptr_t right = (uintptr_t)allocate(size, align, MEMPROT_SIDE_RIGHT);
            uintptr_t left = (uintptr_t)allocate(size, align, MEMPROT_SIDE_LEFT);
            CHECK(right % align == 0 && left % memprot_page_size() == 0, "%zu bytes, aligned to %zu", size, align);
            CHECK(memprot_slack_end(right + size) - (right + size) < align, "%zu bytes, aligned to %zu", size, align);
            CHECK(memprot_guard_size((void *)right) == size, "%zu", memprot_guard_size((void *)right));
            memset((void *)right, 0, size);
            memset((void *)left, 0, size);
            CHECK(give_back((void *)right) == MEMPROT_GUARD_FREED, "%zu", size);
            CHECK(give_back((void *)left) == MEMPROT_GUARD_FREED, "%zu", size);
        }
    }
    CHECK(memprot_record_faults() == 0, "%zu", (size_t)memprot_record_faults());
}

// ---- what is told

static struct memprot_record last;
static unsigned told;

static int describe(struct memprot_record *record, enum memprot_policy policy) {
    (void)policy;
    last = *record;
    told++;
    return MEMPROT_OWNER_LISTENERS;
}

static void deliver(int owner, enum memprot_policy policy) { (void)owner, (void)policy; }

static const struct memprot_fault_hooks hooks = {.describe = describe, .deliver = deliver};

static bool any(const struct memprot_record *record, int owner, const void *closure) {
    (void)record, (void)owner, (void)closure;
    return true;
}

static bool is_told(enum memprot_finding finding, uintptr_t address, const void *block) {
    bool is = told == 1 && last.finding == finding && last.address == address && last.signal == 0 &&
              last.block.address == (uintptr_t)block;
    told = 0;
    for (struct memprot_record *record; (record = memprot_record_claim(any, NULL)) != NULL;)
        memprot_record_free(record);
    return is;
}

static void test_findings(void) {
    char *block = allocate(20, 16, MEMPROT_SIDE_RIGHT);
    uintptr_t address = (uintptr_t)block;
    CHECK(give_back(block + 4) == MEMPROT_GUARD_WILD, "inside");
    CHECK(is_told(MEMPROT_FOUND_WILD_FREE, address + 4, block) && !last.block.is_freed, "inside");
    block[21] = 0;
    CHECK(give_back(block) == MEMPROT_GUARD_FREED, "slack");
    CHECK(is_told(MEMPROT_FOUND_SLACK, address + 21, block) && last.size == 1 && last.value[0] == 0, "slack");
    CHECK(give_back(block) == MEMPROT_GUARD_WILD, "again");
    CHECK(is_told(MEMPROT_FOUND_DOUBLE_FREE, address, block) && last.block.is_freed, "again");
    size_t size = 0;
    CHECK(memprot_guard_resize(block, MEMPROT_GUARD_MALLOC, &nowhere, &size) == MEMPROT_GUARD_WILD, "resize");
    CHECK(is_told(MEMPROT_FOUND_DOUBLE_FREE, address, block), "resize");
    char outside;
    CHECK(give_back(&outside) == MEMPROT_GUARD_FOREIGN && told == 0, "outside");
}

// ---- the quarantine

static void test_order(void) {
    uintptr_t freed[BLOCKS];
    memprot_guard_set_quarantine(BLOCKS / 2 * memprot_page_size());
    for (int i = 0; i < BLOCKS; i++) {
        char *block = allocate(100, 1, MEMPROT_SIDE_RIGHT);
        freed[i] = (uintptr_t)block;
        block[0] = 1;
        give_back(block);
        CHECK(memprot_quarantine_bytes(MEMPROT_GUARD_MALLOC) <= BLOCKS / 2 * memprot_page_size(), "block %d", i);
        CHECK(i <= BLOCKS / 2 || freed[i] == freed[i - BLOCKS / 2 - 1], "block %d", i);
    }
    struct memprot_block near;
    CHECK(memprot_guard_block_near(freed[BLOCKS - 1] + 50, &near) && near.is_freed && near.size == 100, "the youngest");
    memprot_guard_set_quarantine(0);
    CHECK(memprot_quarantine_bytes(MEMPROT_GUARD_MALLOC) == 0, "%zu",
          (size_t)memprot_quarantine_bytes(MEMPROT_GUARD_MALLOC));
}

static void *allocate_and_free(void *unused) {
    static const size_t sizes[] = {10, 5000, 100, 70000, 1};
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t size = sizes[i % 5];
        char *block = allocate(size, 16, i % 2 ? MEMPROT_SIDE_TURNS : MEMPROT_SIDE_RANDOM);
        block[0] = block[size - 1] = (char)i;
        if (i % 100 == 0)
            memprot_guard_check();
        CHECK(block[0] == (char)i && block[size - 1] == (char)i, "round %u", i);
        CHECK(give_back(block) == MEMPROT_GUARD_FREED, "round %u", i);
    }
    return unused;
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    memprot_guard_set_quarantine((size_t)1 << 20);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, allocate_and_free, NULL) == 0, "thread %d", i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    memprot_guard_set_quarantine(0);
    struct memprot_guard_statistics now;
    memprot_guard_read_statistics(MEMPROT_GUARD_MALLOC, &now);
    CHECK(now.blocks == now.freed_blocks && now.overhead == 0 && now.quarantined == 0, "%zu blocks, %zu freed",
          (size_t)now.blocks, (size_t)now.freed_blocks);
}

int main(void) {
    memprot_fault_set_hooks(&hooks);
    memprot_policy_of_process(MEMPROT_POLICY_DISCARD);
    if (memprot_fault_install() < 0)
        return TEST_FAILED;
    test_places();
    test_findings();
    test_order();
    test_threads();
    CHECK(told == 0, "%u told", told);
    return failed_checks ? TEST_FAILED : TEST_PASSED;
}
