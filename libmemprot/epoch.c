#include "epoch.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

// Written by every handler, read by the waiter; sequentially consistent, because a handler's count and its
// reading of the published structure must not pass each other.
static atomic_int inside[2];
static atomic_int current;
static pthread_mutex_t waiting = PTHREAD_MUTEX_INITIALIZER;

// May run in a signal handler.
int memprot_epoch_enter(void) {
    int token = atomic_load(&current);
    atomic_fetch_add(&inside[token], 1);
    return token;
}

// May run in a signal handler.
void memprot_epoch_leave(int token) { atomic_fetch_sub(&inside[token], 1); }

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

void memprot_epoch_after_fork(void) {
    atomic_store(&inside[0], 0);
    atomic_store(&inside[1], 0);
    pthread_mutex_init(&waiting, NULL);
}
