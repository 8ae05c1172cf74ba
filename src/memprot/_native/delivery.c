// A delivery is an asynchronous exception, set in the state of the thread that is to receive it. Its class
// takes over the thread's records when the interpreter instantiates it. One delivery per thread is
// outstanding at a time: the field that holds it is the flag.
//
// The handler may run while its own thread holds the interpreter or not; in both cases that thread is stopped
// inside an instruction that touches data, so it is neither inside the interpreter's locks nor using its own
// thread state.
#include "delivery.h"
#include "claim.h"
#include "crash.h"
#include "describe.h"
#include "docstrings.h"

#include "backtrace.h"
#include "interpreter.h"
#include "scope.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static PyObject *drain_callable;
static atomic_bool drain_scheduled;

// ---- threads without Python: whose call are they working for?

enum { THREADS_LOOKED_AT = 256, LOOKS = 16 };

// A thread can end while another one is paused over. May run in a signal handler.
static bool exists(const PyThreadState *thread) {
    PyThreadState *other = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
    while (other && other != thread)
        other = PyThreadState_Next(other);
    return other != NULL;
}

// Looked at often, because a short loop comes by the same instruction again. May run in a signal handler.
static bool stands_still(PyThreadState *thread) {
    memprot_frame *frame = memprot_top_frame(thread);
    const _Py_CODEUNIT *instruction = frame ? memprot_frame_instruction(frame) : NULL;
    for (int look = 0; frame && look < LOOKS; look++) {
        struct timespec pause = {.tv_nsec = 50000};
        nanosleep(&pause, NULL);
        if (!exists(thread) || memprot_top_frame(thread) != frame || memprot_frame_instruction(frame) != instruction)
            return false;
    }
    return frame != NULL;
}

// One thread that waits inside native code, and in *several whether there are more. A thread without the interpreter
// may only be waiting for its turn to have it: a thorough look pauses to see. May run in a signal handler.
static PyThreadState *look_for_waiting_thread(bool thorough, bool *several) {
    PyThreadState *threads[THREADS_LOOKED_AT], *waiting = NULL;
    size_t count = 0;
    *several = false;
    for (PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
         thread && count < THREADS_LOOKED_AT; thread = PyThreadState_Next(thread))
        threads[count++] = thread;
    for (size_t i = 0; i < count && !*several; i++) {
        if (!exists(threads[i]) || !memprot_top_frame(threads[i]))
            continue;
        if ((thorough || memprot_is_attached(threads[i])) && !stands_still(threads[i]))
            continue;
        *several = waiting != NULL;
        waiting = threads[i];
    }
    return waiting;
}

// The one Python thread that waits inside native code: one that has released the interpreter, or holds it
// without executing Python. NULL when there is none, or more than one. May run in a signal handler.
static PyThreadState *find_waiting_thread(void) {
    bool several;
    PyThreadState *waiting = look_for_waiting_thread(false, &several);
    if (several)
        waiting = look_for_waiting_thread(true, &several);
    return several ? NULL : waiting;
}

// May run in a signal handler.
static int describe(struct memprot_record *record, enum memprot_policy policy) {
    PyThreadState *thread = memprot_own_thread();
    if (thread) {
        memprot_describe_thread(record, thread);
        return record->thread;
    }
    thread = find_waiting_thread();
    if (!thread)
        return MEMPROT_OWNER_ANYONE;
    memprot_describe_thread(record, thread);
    return policy == MEMPROT_POLICY_RAISE && !memprot_fault_in_scope() ? (int)thread->native_thread_id
                                                                       : MEMPROT_OWNER_ANYONE;
}

// ---- delivering

// What is on its way when a thread forks waits: raised in one of the functions that the interpreter calls for forks, it
// would end there, and leave undone what that function does.
static _Thread_local bool withheld;

#if PY_VERSION_HEX < 0x030c0000
// CPython 3.11 instantiates an asynchronous exception only where it is caught, when the frames that could tell an
// array's name may be gone. A pending call can raise the instance itself; but it runs in the main thread only.
static atomic_bool raise_scheduled;

static int raise_pending(void *unused) {
    (void)unused;
    atomic_store(&raise_scheduled, false);
    if (withheld)
        return 0;
    PyObject *error = memprot_scope_take();
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return PyErr_Occurred() ? -1 : 0;
}

// May run in a signal handler.
static bool deliver_to_main_thread(void) {
    if (!memprot_fault_in_main_thread())
        return false;
    if (!atomic_exchange(&raise_scheduled, true) && memprot_call_later(raise_pending) < 0) {
        atomic_store(&raise_scheduled, false);
        return false;
    }
    return true;
}
#endif

static int drain(void *unused) {
    (void)unused;
    atomic_store(&drain_scheduled, false);
    PyObject *result = drain_callable ? PyObject_CallNoArgs(drain_callable) : Py_NewRef(Py_None);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

// May run in a signal handler.
static void schedule_drain(void) {
    if (!atomic_exchange(&drain_scheduled, true) && memprot_call_later(drain) < 0)
        atomic_store(&drain_scheduled,
                     false); // the queue is full: the next record or the program's end drains
}

// May run in a signal handler.
static void deliver(int owner, enum memprot_policy policy) {
    PyThreadState *thread = memprot_own_thread();
    if (policy == MEMPROT_POLICY_LOG || (owner == MEMPROT_OWNER_ANYONE && !memprot_fault_in_scope())) {
        schedule_drain();
#if PY_VERSION_HEX < 0x030c0000
    } else if (thread && deliver_to_main_thread()) {
#endif
    } else if (thread) {
        memprot_raise_later(thread, memprot_claim_class);
    } else if (owner != MEMPROT_OWNER_ANYONE && (thread = memprot_thread_of_main((unsigned long)owner)) != NULL) {
        memprot_raise_later(thread, memprot_claim_class);
    }
}

bool memprot_delivery_is_waiting(void) {
#if PY_VERSION_HEX < 0x030c0000
    if (atomic_load_explicit(&raise_scheduled, memory_order_relaxed) && memprot_fault_in_main_thread())
        return true;
#endif
    // Written by this thread's handlers, and by those of threads without Python that work for it.
    PyObject *pending = __atomic_load_n(&PyThreadState_Get()->async_exc, __ATOMIC_RELAXED);
    return pending && pending == memprot_claim_class;
}

// fault_withhold()
static PyObject *fault_withhold(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    withheld = memprot_delivery_is_waiting();
    if (withheld)
        memprot_claim_withdraw();
    Py_RETURN_NONE;
}

// fault_resume()
static PyObject *fault_resume(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyThreadState *thread = memprot_own_thread();
    if (withheld && thread)
        memprot_raise_later(thread, memprot_claim_class);
    withheld = false;
    Py_RETURN_NONE;
}

const struct memprot_fault_hooks memprot_delivery_hooks = {
    .describe = describe, .deliver = deliver, .die = memprot_crash};

// set_drain(callable)
static PyObject *set_drain(PyObject *module, PyObject *callable) {
    (void)module;
    Py_XSETREF(drain_callable, Py_NewRef(callable));
    Py_RETURN_NONE;
}

// What called the interpreter's loop says nothing about a fault below it.
static void limit_backtraces(void) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    uintptr_t loop = (uintptr_t)_PyEval_EvalFrameDefault;
    if (dladdr1((void *)loop, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol && info.dli_saddr == (void *)loop)
        memprot_backtrace_set_limit(loop, loop + symbol->st_size);
}

static PyMethodDef methods[] = {
    {"fault_withhold", fault_withhold, METH_NOARGS, DOC_fault_withhold},
    {"fault_resume", fault_resume, METH_NOARGS, DOC_fault_resume},
    {"set_drain", set_drain, METH_O, DOC_set_drain},
    {NULL, NULL, 0, NULL},
};

int memprot_add_delivery(PyObject *module) {
    limit_backtraces();
    return PyModule_AddFunctions(module, methods);
}
