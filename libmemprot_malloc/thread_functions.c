// pthread_getattr_np(3) allocates while it holds a lock of the thread. Were that the thread's first block, its stack
// would be asked for by the same function, and it would wait for itself.
#include "native_stacks.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

__attribute__((visibility("default"))) int pthread_getattr_np(pthread_t thread, pthread_attr_t *ret) {
    static _Atomic(__typeof__(&pthread_getattr_np)) original;
    __typeof__(&pthread_getattr_np) next = original;
    if (!next)
        original = next = (__typeof__(&pthread_getattr_np))dlsym(RTLD_NEXT, "pthread_getattr_np");
    memprot_native_stacks_meet_thread();
    return next ? next(thread, ret) : ENOSYS;
}
