// What stands between an object and pthread_create does nothing but have the thread itself begin here: nobody else can
// give it an alternate stack.
#include "thread_start.h"

#include "alternate_stack.h"
#include "imports.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct start {
    void *(*routine)(void *);
    void *argument;
};

static int watched_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *),
                                  void *argument);

static struct memprot_import pthread_create_import = {.name = "pthread_create",
                                                      .replacement = (uintptr_t)watched_pthread_create};

static void *begin(void *opaque) {
    struct start start = *(struct start *)opaque;
    free(opaque);
    // Without one it runs all the same; its overflow is then a death that nobody tells of.
    int error = errno;
    (void)memprot_alternate_stack_use();
    errno = error;
    return start.routine(start.argument);
}

static int watched_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *),
                                  void *argument) {
    __typeof__(&pthread_create) original = (__typeof__(&pthread_create))atomic_load(&pthread_create_import.original);
    int error = errno;
    struct start *start = malloc(sizeof *start);
    errno = error;
    if (!start)
        return original(thread, attributes, routine, argument);
    *start = (struct start){routine, argument};
    int failed = original(thread, attributes, begin, start);
    if (failed)
        free(start);
    return failed;
}

static void watch(void) {
    static _Atomic uint64_t loads;
    memprot_imports_prepare(&pthread_create_import, 1);
    memprot_imports_redirect(&pthread_create_import, 1, &loads);
}

void memprot_thread_starts_watch(void) {
    static pthread_once_t watched = PTHREAD_ONCE_INIT;
    pthread_once(&watched, watch);
}
