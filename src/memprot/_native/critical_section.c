#include "critical_section.h"

#ifdef Py_GIL_DISABLED
#include <pthread.h>

// Filled while the module is made, by one thread.
static PyMutex *mutexes[8];
static size_t count;

static void after_fork_in_child(void) {
    for (size_t i = 0; i < count; i++)
        *mutexes[i] = (PyMutex){0};
}

void memprot_mutex_free_in_children(PyMutex *mutex) {
    if (count == 0)
        pthread_atfork(NULL, NULL, after_fork_in_child);
    if (count < sizeof mutexes / sizeof *mutexes)
        mutexes[count++] = mutex;
}
#else
void memprot_mutex_free_in_children(memprot_mutex *mutex) { (void)mutex; }
#endif
