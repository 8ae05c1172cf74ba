#include "epoch.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

// Written by every handler, read by the waiter; sequentially consistent, because a handler's count and its
// reading of the published structure must not pass each other, nor its count and its look at the door.
static atomic_int inside[2];
static atomic_int current;
static atomic_int forking; // threads that are about to fork, or just have
static pthread_mutex_t waiting = PTHREAD_MUTEX_INITIALIZER;

// Of the calling thread: a handler may interrupt what is inside already.
static _Thread_local int depth;
static _Thread_local bool forks;

enum { NESTED = -1 };

// May run in a signal handler.
int memprot_epoch_enter(void) {
    if (depth > 0 || forks) {
        depth++;
        return NESTED;
    }
    for (;;) {
        int token = atomic_load(&current);
        atomic_fetch_add(&inside[token], 1);
        depth = 1;
        if (atomic_load(&forking) == 0)
            return token;
        memprot_epoch_leave(token);
        sched_yield();
    }
}

// May run in a signal handler.
void memprot_epoch_leave(int token) {
    depth--;
    if (token != NESTED)
        atomic_fetch_sub(&inside[token], 1);
}

void memprot_epoch_wait(void) {
    pthread_mutex_lock(&waiting);
    // Twice: a handler may have read the old token just before the flip and be counted just after the first
    // look.
    for (int round = 0; round < 2; round++) {
        int old = atomic_load(&current);
        atomic_store(&current, !old);
        while (atomic_load(&inside[old]) > 0)
            sched_yield();
    }
    pthread_mutex_unlock(&waiting);
}

void memprot_epoch_before_fork(void) {
    forks = true;
    atomic_fetch_add(&forking, 1);
    memprot_epoch_wait();
}

void memprot_epoch_after_fork_in_parent(void) {
    forks = false;
    atomic_fetch_sub(&forking, 1);
}

void memprot_epoch_after_fork_in_child(void) {
    forks = false;
    depth = 0;
    atomic_store(&inside[0], 0);
    atomic_store(&inside[1], 0);
    atomic_store(&forking, 0);
    pthread_mutex_init(&waiting, NULL);
}
