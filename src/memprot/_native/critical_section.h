// Which thread may touch what, on builds with a global interpreter lock and without.
//
// The state of one object is touched in a critical section of that object, and lists of objects under a mutex. Where
// there is a global lock, holding it is enough: both are empty then. A thread that waits for either lets others stop
// it meanwhile; nothing that may run in a signal handler takes one.
#pragma once

#include "binding.h"

#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION()         }
#endif

#ifdef Py_GIL_DISABLED
typedef PyMutex memprot_mutex;
#define MEMPROT_LOCK(mutex)   PyMutex_Lock(mutex)
#define MEMPROT_UNLOCK(mutex) PyMutex_Unlock(mutex)
#else
typedef char memprot_mutex;
#define MEMPROT_LOCK(mutex)   ((void)(mutex))
#define MEMPROT_UNLOCK(mutex) ((void)(mutex))
#endif

// A mutex that is waited for may have been handed to a thread that a forked child has not.

/// Lets every child begin with the mutex free; whoever forks does not hold it.
void memprot_mutex_free_in_children(memprot_mutex *mutex);

/// Frees the critical section of an object, in a child. The forking thread is in none of it.
static inline void memprot_critical_section_free(PyObject *object) {
#ifdef Py_GIL_DISABLED
    object->ob_mutex = (PyMutex){0};
#else
    (void)object;
#endif
}

/// A function of one object whose body is a critical section of it: NAME calls NAME_inside.
#define MEMPROT_CRITICAL(type, name, parameters, self, ...)                                                            \
    type name parameters {                                                                                             \
        (void)(self);                                                                                                  \
        type result;                                                                                                   \
        Py_BEGIN_CRITICAL_SECTION(self);                                                                               \
        result = name##_inside(__VA_ARGS__);                                                                           \
        Py_END_CRITICAL_SECTION();                                                                                     \
        return result;                                                                                                 \
    }
