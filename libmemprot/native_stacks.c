#include "native_stacks.h"

#include "backtrace.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

// ---- the depot: each stack is a row of words, the first of which holds its hash and its depth; its number is its
// place

enum { WORDS = 1 << 20, SLOTS = 1 << 17, MOST_PROBES = 64, DEPTH_BITS = 8 };

static struct depot {
    _Atomic uint32_t used;
    _Atomic uint32_t slots[SLOTS]; // open addressing by hash
    _Atomic uint64_t words[WORDS]; // [0] stays empty
} *_Atomic depot;

static struct depot *find_depot(void) {
    struct depot *there = atomic_load_explicit(&depot, memory_order_acquire);
    if (there)
        return there;
    struct depot *fresh =
        mmap(NULL, sizeof *fresh, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED)
        return NULL;
    atomic_store(&fresh->used, 1);
    if (atomic_compare_exchange_strong(&depot, &there, fresh))
        return fresh;
    munmap(fresh, sizeof *fresh);
    return there;
}

static uint64_t hash_of(const uintptr_t *pcs, uint32_t depth) {
    uint64_t hash = depth;
    for (uint32_t i = 0; i < depth; i++)
        hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15u ^ hash >> 29;
    return hash;
}

// May run in a signal handler.
static uint64_t word_at(const struct depot *in, uint32_t place) {
    return atomic_load_explicit(&in->words[place], memory_order_relaxed);
}

static bool is_stack(const struct depot *in, uint32_t place, uint64_t head, const uintptr_t *pcs, uint32_t depth) {
    if (word_at(in, place) != head)
        return false;
    for (uint32_t i = 0; i < depth; i++) {
        if (word_at(in, place + 1 + i) != pcs[i])
            return false;
    }
    return true;
}

// Two threads that come with the same stack at once may leave one of two rows without a use.
static uint32_t number_of(const uintptr_t *pcs, uint32_t depth) {
    struct depot *in = find_depot();
    if (!in)
        return 0;
    uint64_t hash = hash_of(pcs, depth), head = hash << DEPTH_BITS | depth;
    uint32_t fresh = 0;
    for (uint32_t probe = 0; probe < MOST_PROBES; probe++) {
        _Atomic uint32_t *slot = &in->slots[((hash >> 32) + probe) % SLOTS];
        uint32_t place = atomic_load_explicit(slot, memory_order_acquire);
        if (place == 0) {
            if (!fresh) {
                if (atomic_load(&in->used) + depth + 1 > WORDS)
                    return 0;
                fresh = atomic_fetch_add(&in->used, depth + 1);
                if (fresh + depth + 1 > WORDS)
                    return 0;
                for (uint32_t i = 0; i < depth; i++)
                    atomic_store_explicit(&in->words[fresh + 1 + i], pcs[i], memory_order_relaxed);
                atomic_store_explicit(&in->words[fresh], head, memory_order_relaxed);
            }
            if (atomic_compare_exchange_strong_explicit(slot, &place, fresh, memory_order_release,
                                                        memory_order_acquire))
                return fresh;
        }
        if (is_stack(in, place, head, pcs, depth))
            return place;
    }
    return 0;
}

// May run in a signal handler.
uint32_t memprot_native_stack_read(uint32_t number, uintptr_t *pcs, uint32_t capacity) {
    const struct depot *in = atomic_load_explicit(&depot, memory_order_acquire);
    if (!in || number == 0 || number >= WORDS)
        return 0;
    uint32_t depth = word_at(in, number) & ((1 << DEPTH_BITS) - 1);
    if (depth > MEMPROT_NATIVE_DEPTH || number + 1 + depth > WORDS)
        return 0;
    for (uint32_t i = 0; i < depth && i < capacity; i++)
        pcs[i] = word_at(in, number + 1 + i);
    return depth < capacity ? depth : capacity;
}

// ---- the walk

// What a thread's stack lies between; where that is not known, stop is 1.
static _Thread_local uintptr_t stack_start, stack_stop;

static void learn_bounds(void) {
    pthread_attr_t attributes;
    void *start;
    size_t size;
    stack_stop = 1;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return;
    if (pthread_attr_getstack(&attributes, &start, &size) == 0) {
        stack_start = (uintptr_t)start;
        stack_stop = stack_start + size;
    }
    pthread_attr_destroy(&attributes);
}

void memprot_native_stacks_meet_thread(void) {
    if (stack_stop == 0)
        learn_bounds();
}

static bool is_on_stack(uintptr_t address) {
    memprot_native_stacks_meet_thread();
    // The main thread's grows below what it was when it was asked about.
    return address < stack_stop && address >= stack_start;
}

#if defined(__aarch64__)

// Code for it keeps frame pointers.
static uint32_t capture_on_stack(const struct memprot_caller *caller) {
    uintptr_t pcs[MEMPROT_NATIVE_DEPTH] = {(uintptr_t)caller->address};
    uint32_t depth = 1;
    uintptr_t frame = *(const uintptr_t *)caller->frame, last = (uintptr_t)caller->frame;
    while (depth < MEMPROT_NATIVE_DEPTH && frame > last && frame % 16 == 0 && frame + 16 <= stack_stop) {
        uintptr_t pc = ((const uintptr_t *)frame)[1];
        if (pc == 0)
            break;
        pcs[depth++] = pc;
        last = frame;
        frame = *(const uintptr_t *)frame;
    }
    return number_of(pcs, depth);
}

#else

enum { PLACES = 1 << 12 };

struct known {
    atomic_flag taken; // whoever finds it taken does without
    struct memprot_caller caller;
    uint32_t number, depth;
    uintptr_t pcs[MEMPROT_NATIVE_DEPTH], stacks[MEMPROT_NATIVE_DEPTH];
};

static struct known places[PLACES];

// A function's return address lies right below what its caller's stack pointer was.
static bool is_there(const struct known *known, const struct memprot_caller *caller) {
    if (known->caller.address != caller->address || known->caller.frame != caller->frame)
        return false;
    for (uint32_t i = 1; i < known->depth; i++) {
        if (known->stacks[i] > stack_stop || ((const uintptr_t *)known->stacks[i])[-1] != known->pcs[i])
            return false;
    }
    return true;
}

static void walk(struct known *known, const struct memprot_caller *caller) {
    known->caller = *caller;
    known->depth = memprot_backtrace((uintptr_t)caller->address, known->pcs, known->stacks, MEMPROT_NATIVE_DEPTH, NULL);
    known->number = number_of(known->pcs, known->depth);
    for (uint32_t i = 1; i < known->depth; i++) {
        if (known->stacks[i] <= (uintptr_t)caller->frame || known->stacks[i] > stack_stop)
            known->caller.address = NULL; // it left the stack: not to be looked for there
    }
}

static uint32_t capture_on_stack(const struct memprot_caller *caller) {
    uint64_t hash = ((uintptr_t)caller->address ^ (uintptr_t)caller->frame >> 4) * 0x9e3779b97f4a7c15u;
    struct known *known = &places[hash >> 52];
    if (atomic_flag_test_and_set_explicit(&known->taken, memory_order_acquire)) {
        uintptr_t pc = (uintptr_t)caller->address;
        return number_of(&pc, 1);
    }
    if (!is_there(known, caller))
        walk(known, caller);
    uint32_t number = known->number;
    atomic_flag_clear_explicit(&known->taken, memory_order_release);
    return number;
}

#endif

uint32_t memprot_native_stack_capture(const struct memprot_caller *caller) {
    uintptr_t pc = (uintptr_t)caller->address;
    return is_on_stack((uintptr_t)caller->frame) ? capture_on_stack(caller) : number_of(&pc, 1);
}

void memprot_native_stacks_prepare(void) { memprot_backtrace_prepare(); }
