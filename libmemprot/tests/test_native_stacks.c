// The numbers of native stacks: the same for the same calls, others for others, and readable again.
#include "check.h"
#include "native_stacks.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

enum { THREADS = 8, ROUNDS = 2000 };

#define OUTLINE __attribute__((noinline, noclone))

// What stands behind the calls keeps them from becoming jumps.
OUTLINE static uint32_t capture(void) {
    uint32_t number = memprot_native_stack_capture(&MEMPROT_CALLER);
    __asm__ volatile("" : "+r"(number));
    return number;
}

OUTLINE static uint32_t call(int depth) {
    uint32_t number = depth > 0 ? call(depth - 1) : capture();
    __asm__ volatile("" : "+r"(number));
    return number;
}

static void test_each_way_to_a_place_has_a_number_of_its_own(void) {
    uint32_t numbers[2][12];
    for (volatile int round = 0; round < 2; round++) { // volatile: or it is unrolled, to calls of other places
        for (int depth = 0; depth < 12; depth++)
            numbers[round][depth] = call(depth);
    }
    for (int depth = 0; depth < 12; depth++) {
        CHECK(numbers[0][depth] != 0, "depth %d has no number", depth);
        CHECK(numbers[0][depth] == numbers[1][depth], "depth %d has two numbers", depth);
        for (int other = 0; other < depth; other++)
            CHECK(numbers[0][depth] != numbers[0][other], "depths %d and %d have one number", depth, other);
    }
}

static void test_a_number_gives_the_return_addresses_innermost_first(void) {
    uintptr_t few[MEMPROT_NATIVE_DEPTH], more[MEMPROT_NATIVE_DEPTH], one[1];
    uint32_t few_count = memprot_native_stack_read(call(2), few, MEMPROT_NATIVE_DEPTH);
    uint32_t more_count = memprot_native_stack_read(call(4), more, MEMPROT_NATIVE_DEPTH);
    CHECK(few_count >= 4 && more_count == few_count + 2, "%u and %u frames", few_count, more_count);
    CHECK(few[0] == more[0], "they were called at two places");
    CHECK(more[1] == more[2] && more[2] == more[3], "the calls of itself come from one place");
    CHECK(memprot_native_stack_read(call(2), one, 1) == 1 && one[0] == few[0], "a short read is another one");
    CHECK(memprot_native_stack_read(0, few, MEMPROT_NATIVE_DEPTH) == 0, "0 is a stack");
    CHECK(memprot_native_stack_read(UINT32_MAX, few, MEMPROT_NATIVE_DEPTH) == 0, "a number of nobody is a stack");
}

static void test_a_deep_stack_is_cut_off(void) {
    uintptr_t pcs[2 * MEMPROT_NATIVE_DEPTH];
    uint32_t count = memprot_native_stack_read(call(100), pcs, 2 * MEMPROT_NATIVE_DEPTH);
    CHECK(count == MEMPROT_NATIVE_DEPTH, "%u frames", count);
}

static ucontext_t here, elsewhere;
static uint32_t captured;

static void run_elsewhere(void) { captured = call(5); }

static void test_on_a_stack_of_the_programs_own_only_the_caller_is_known(void) {
    static char stack[1 << 16];
    getcontext(&elsewhere);
    elsewhere.uc_stack = (stack_t){.ss_sp = stack, .ss_size = sizeof stack};
    elsewhere.uc_link = &here;
    makecontext(&elsewhere, run_elsewhere, 0);
    swapcontext(&here, &elsewhere);
    uintptr_t pcs[MEMPROT_NATIVE_DEPTH];
    uint32_t count = memprot_native_stack_read(captured, pcs, MEMPROT_NATIVE_DEPTH);
    CHECK(count == 1, "%u frames", count);
}

static void *capture_again_and_again(void *first) {
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t number = call(round % 7);
        uintptr_t pcs[MEMPROT_NATIVE_DEPTH];
        uint32_t count = memprot_native_stack_read(number, pcs, MEMPROT_NATIVE_DEPTH);
        if (count == 0 || pcs[0] != *(uintptr_t *)first)
            return first;
    }
    return NULL;
}

static void test_threads_do_not_disturb_each_other(void) {
    pthread_t threads[THREADS];
    uintptr_t first;
    memprot_native_stack_read(call(0), &first, 1);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, capture_again_and_again, &first) == 0, "no thread %d", i);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(!failed, "thread %d read a stack that is not its own", i);
    }
}

int main(void) {
    memprot_native_stacks_prepare();
    test_each_way_to_a_place_has_a_number_of_its_own();
    test_a_number_gives_the_return_addresses_innermost_first();
    test_a_deep_stack_is_cut_off();
    test_on_a_stack_of_the_programs_own_only_the_caller_is_known();
    test_threads_do_not_disturb_each_other();
    return failed_checks ? TEST_FAILED : TEST_PASSED;
}
