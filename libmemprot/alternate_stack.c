#include "alternate_stack.h"

#include "page.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>

// Handlers unwind, describe every Python thread and start the reporter on it.
enum { STACK_BYTES = 256 << 10 };

// At the upper end of its own memory, above the stack.
struct stack {
    struct stack *next, *before;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stack *all;
static pthread_key_t own;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int prepared = -1; // or the errno

static size_t length(void) { return memprot_page_size() + STACK_BYTES; }

static char *start_of(struct stack *stack) { return (char *)(stack + 1) - length(); }

static void link_in(struct stack *stack) {
    pthread_mutex_lock(&lock);
    *stack = (struct stack){.next = all};
    if (all)
        all->before = stack;
    all = stack;
    pthread_mutex_unlock(&lock);
}

static void take_out(struct stack *stack) {
    *(stack->before ? &stack->before->next : &all) = stack->next;
    if (stack->next)
        stack->next->before = stack->before;
}

// The thread ends. Where somebody has put another stack in its place, that one is not touched.
static void give_back(void *opaque) {
    struct stack *stack = opaque;
    char *start = start_of(stack);
    stack_t none = {.ss_flags = SS_DISABLE}, current;
    if (sigaltstack(NULL, &current) < 0 ||
        (current.ss_sp == start + memprot_page_size() && sigaltstack(&none, NULL) < 0))
        return; // it may still be in use: it stays
    pthread_mutex_lock(&lock);
    take_out(stack);
    pthread_mutex_unlock(&lock);
    munmap(start, length());
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&lock); }

static void after_fork_in_child(void) {
    struct stack *mine = pthread_getspecific(own);
    for (struct stack *stack = all, *next; stack; stack = next) {
        next = stack->next;
        if (stack == mine)
            continue;
        take_out(stack);
        munmap(start_of(stack), length());
    }
    pthread_mutex_unlock(&lock);
}

static void prepare(void) {
    prepared = pthread_key_create(&own, give_back);
    if (prepared == 0)
        prepared = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// Below it lies a page that nothing may touch.
static char *map(void) {
    char *start = mmap(NULL, length(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    if (mprotect(start, memprot_page_size(), PROT_NONE) == 0)
        return start;
    int error = errno;
    munmap(start, length());
    errno = error;
    return NULL;
}

int memprot_alternate_stack_use(void) {
    stack_t current;
    if (sigaltstack(NULL, &current) < 0)
        return -1;
    if (!(current.ss_flags & SS_DISABLE))
        return 0;
    pthread_once(&once, prepare);
    errno = prepared;
    char *start = prepared == 0 ? map() : NULL;
    if (!start)
        return -1;
    struct stack *stack = (struct stack *)(void *)(start + length()) - 1;
    stack_t fresh = {.ss_sp = start + memprot_page_size(), .ss_size = STACK_BYTES - sizeof *stack};
    link_in(stack);
    int failed = pthread_setspecific(own, stack);
    if (failed == 0 && sigaltstack(&fresh, NULL) == 0)
        return 0;
    if (failed)
        errno = failed;
    int error = errno;
    pthread_setspecific(own, NULL);
    give_back(stack);
    errno = error;
    return -1;
}
