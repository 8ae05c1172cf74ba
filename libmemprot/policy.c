#include "policy.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct memprot_scope {
    _Atomic uint64_t order; // of opening; 0: closed
    atomic_int thread;
    atomic_int policy;
    _Atomic uintptr_t context;
    atomic_bool may_claim;
    int number;
    void *user;
    struct memprot_scope *spare; // the next that nobody uses; under the mutex
};

// Scopes stand in blocks that are made when needed and stay: a handler may be looking at any of them.
enum { BLOCK = 128, BLOCKS = 1 << 13 };
static _Atomic(struct memprot_scope *) blocks[BLOCKS];
static atomic_int made; // numbers given out: 1 to made

static pthread_mutex_t giving = PTHREAD_MUTEX_INITIALIZER;
static struct memprot_scope *spares;
static _Atomic(struct memprot_scope *) spare; // one at hand without the mutex

static _Atomic uint64_t next_order = 1;
static atomic_int open_scopes;
static atomic_int process_policy;

static atomic_bool memory_may_record; // some memory has been given a policy of its own that does, or deaths count too

void memprot_policy_of_process(enum memprot_policy policy) { atomic_store(&process_policy, (int)policy); }

void memprot_policy_of_memory(atomic_int *of, enum memprot_policy policy) {
    atomic_store(of, (int)policy);
    if (policy != MEMPROT_POLICY_NONE && memprot_policy_recovers(policy))
        atomic_store(&memory_may_record, true);
}

void memprot_policy_record_deaths(void) { atomic_store(&memory_may_record, true); }

// May run in a signal handler.
bool memprot_policy_may_record(void) {
    return memprot_scope_is_any_open() || atomic_load_explicit(&memory_may_record, memory_order_relaxed) ||
           memprot_policy_recovers((enum memprot_policy)atomic_load(&process_policy));
}

// May run in a signal handler.
struct memprot_scope *memprot_scope_of(int number) {
    if (number < 1 || number > atomic_load_explicit(&made, memory_order_acquire))
        return NULL;
    int index = number - 1;
    return &atomic_load_explicit(&blocks[index / BLOCK], memory_order_relaxed)[index % BLOCK];
}

// Under the mutex.
static struct memprot_scope *make(void) {
    int index = atomic_load(&made);
    if (index == BLOCK * BLOCKS) {
        errno = ENOSPC;
        return NULL;
    }
    struct memprot_scope *block = atomic_load(&blocks[index / BLOCK]);
    if (!block) {
        block = calloc(BLOCK, sizeof *block);
        if (!block)
            return NULL;
        atomic_store(&blocks[index / BLOCK], block);
    }
    block[index % BLOCK].number = index + 1;
    atomic_store_explicit(&made, index + 1, memory_order_release);
    return &block[index % BLOCK];
}

struct memprot_scope *memprot_scope_create(void) {
    struct memprot_scope *scope = atomic_exchange_explicit(&spare, NULL, memory_order_acquire);
    if (scope)
        return scope;
    pthread_mutex_lock(&giving);
    scope = spares;
    if (scope)
        spares = scope->spare;
    else
        scope = make();
    pthread_mutex_unlock(&giving);
    return scope;
}

void memprot_scope_destroy(struct memprot_scope *scope) {
    scope = atomic_exchange_explicit(&spare, scope, memory_order_acq_rel);
    if (!scope)
        return;
    pthread_mutex_lock(&giving);
    scope->spare = spares;
    spares = scope;
    pthread_mutex_unlock(&giving);
}

void memprot_scope_open(struct memprot_scope *scope, int thread, uintptr_t context, enum memprot_policy policy) {
    atomic_store_explicit(&scope->thread, thread, memory_order_relaxed);
    atomic_store_explicit(&scope->policy, (int)policy, memory_order_relaxed);
    atomic_store_explicit(&scope->context, context, memory_order_relaxed);
    atomic_store_explicit(&scope->may_claim, true, memory_order_relaxed);
    uint64_t order = atomic_fetch_add_explicit(&next_order, 1, memory_order_relaxed);
    atomic_store_explicit(&scope->order, order, memory_order_release);
    atomic_fetch_add(&open_scopes, 1);
}

void memprot_scope_close(struct memprot_scope *scope) {
    if (atomic_exchange_explicit(&scope->order, 0, memory_order_relaxed) == 0)
        return; // its thread was lost in a fork
    // What is written when it is opened again is not seen together with the old order.
    atomic_thread_fence(memory_order_release);
    atomic_fetch_sub(&open_scopes, 1);
}

void memprot_scope_set_user(struct memprot_scope *scope, void *user) { scope->user = user; }

void *memprot_scope_user(const struct memprot_scope *scope) { return scope->user; }

void memprot_scope_end(struct memprot_scope *scope) {
    atomic_store_explicit(&scope->may_claim, false, memory_order_release);
}

int memprot_scope_number(const struct memprot_scope *scope) { return scope->number; }

// May run in a signal handler.
bool memprot_scope_may_claim(const struct memprot_scope *scope) {
    return atomic_load_explicit(&scope->may_claim, memory_order_acquire);
}

// May run in a signal handler.
bool memprot_scope_is_any_open(void) { return atomic_load(&open_scopes) > 0; }

struct seen {
    uint64_t order;
    int thread, policy;
    uintptr_t context;
};

// Whether it is open, and then all of it as it was at one moment. May run in a signal handler.
static bool see(const struct memprot_scope *scope, struct seen *ret) {
    ret->order = atomic_load_explicit(&scope->order, memory_order_acquire);
    if (ret->order == 0)
        return false;
    ret->thread = atomic_load_explicit(&scope->thread, memory_order_relaxed);
    ret->policy = atomic_load_explicit(&scope->policy, memory_order_relaxed);
    ret->context = atomic_load_explicit(&scope->context, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&scope->order, memory_order_relaxed) == ret->order;
}

enum { NOWHERE = -1 };

// How far out in the calling thread's chain a context is: 0 the innermost, and where threads have no chains. May run in
// a signal handler.
static int depth_of(uintptr_t context, memprot_outer_context *outer) {
    uintptr_t at = outer ? (*outer)(0) : context;
    for (int depth = 0; at != 0; depth++, at = (*outer)(at)) {
        if (at == context)
            return depth;
    }
    return outer ? NOWHERE : 0;
}

// May run in a signal handler.
bool memprot_scope_is_here(const struct memprot_scope *scope, int thread, memprot_outer_context *outer) {
    struct seen seen;
    return see(scope, &seen) && seen.thread == thread && depth_of(seen.context, outer) != NOWHERE;
}

// May run in a signal handler.
struct memprot_ruling memprot_policy_rule(enum memprot_policy of_memory, int thread, memprot_outer_context *outer) {
    struct memprot_ruling ruling = {(enum memprot_policy)atomic_load(&process_policy), MEMPROT_SOURCE_PROCESS, 0};
    struct seen seen, newest = {.order = 0}, own = {.order = 0};
    int own_depth = 0;
    int count = memprot_scope_is_any_open() ? atomic_load_explicit(&made, memory_order_acquire) : 0;
    for (int number = 1; number <= count; number++) {
        if (!see(memprot_scope_of(number), &seen))
            continue;
        if (seen.order > newest.order) {
            newest = seen;
            ruling.source = ruling.scope ? ruling.source : number;
        }
        int depth = seen.thread == thread ? depth_of(seen.context, outer) : NOWHERE;
        if (depth != NOWHERE &&
            (own.order == 0 || depth < own_depth || (depth == own_depth && seen.order > own.order))) {
            own = seen;
            own_depth = depth;
            ruling.source = ruling.scope = number;
        }
    }
    if (newest.order != 0)
        ruling.policy = (enum memprot_policy)(own.order != 0 ? own.policy : newest.policy);
    if (of_memory != MEMPROT_POLICY_NONE) {
        ruling.policy = of_memory;
        ruling.source = MEMPROT_SOURCE_MEMORY;
    }
    return ruling;
}

void memprot_policy_before_fork(void) { pthread_mutex_lock(&giving); }

void memprot_policy_after_fork(void) { pthread_mutex_unlock(&giving); }

void memprot_policy_after_fork_in_child(int parent_thread, int thread) {
    memprot_policy_after_fork();
    for (int number = 1; number <= atomic_load(&made); number++) {
        struct memprot_scope *scope = memprot_scope_of(number);
        if (atomic_load(&scope->thread) == parent_thread) {
            atomic_store(&scope->thread, thread);
        } else if (memprot_scope_may_claim(scope)) {
            memprot_scope_close(scope);
            memprot_scope_end(scope);
        }
    }
}
