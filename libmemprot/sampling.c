#include "sampling.h"

#include <time.h>

// Allocated with the thread: storage that is allocated when it is first used would call malloc, which may be who asks.
static _Thread_local uint64_t seed __attribute__((tls_model("initial-exec")));
static _Thread_local uint32_t left __attribute__((tls_model("initial-exec")));

uint32_t memprot_sample_number(void) {
    if (seed == 0) {
        struct timespec now = {.tv_nsec = 0};
        clock_gettime(CLOCK_MONOTONIC, &now); // when it fails, the address alone tells threads apart
        seed = ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uintptr_t)&seed) | 1;
    }
    // Marsaglia's xorshift with a multiplication, of which the upper half is the better one.
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * 0x2545f4914f6cdd1dULL) >> 32);
}

bool memprot_sample(uint32_t every) {
    if (every <= 1)
        return true;
    if (left == 0 || left >= 2 * every) // 1 to 2 * every - 1, which is `every` on average
        left = 1 + (uint32_t)(((uint64_t)memprot_sample_number() * (2 * (uint64_t)every - 1)) >> 32);
    return --left == 0;
}
