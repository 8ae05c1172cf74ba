// A delivery is an asynchronous exception, set in the state of the thread that is to receive it. Its class
// takes over the thread's records when the interpreter instantiates it. One delivery per thread is
// outstanding at a time: the field that holds it is the flag.
//
// The handler may run while its own thread holds the interpreter or not; in both cases that thread is stopped
// inside an instruction that touches data, so it is neither inside the interpreter's locks nor using its own
// thread state.
#include "delivery.h"
#include "claim.h"
#include "describe.h"
#include "docstrings.h"

#include "backtrace.h"
#include "interpreter.h"
#include "reporter.h"
#include "scope.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static PyObject *drain_callable;
static PyObject *loop_key; // under which asyncio keeps a thread's loop in its state's dict
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

// Whether the thread runs code in a context that it has entered, as event loops do with that of each task. May run in a
// signal handler.
static bool is_in_inner_context(void) { return memprot_outer_context_of(memprot_outer_context_of(0)) != 0; }

// Whether an exception for the thread might come up in an event loop, which it would end. In the main thread one can
// look where it is before. May run in a signal handler.
static bool might_meet_loop(PyThreadState *thread) {
    return is_in_inner_context() && !memprot_fault_in_main_thread() && memprot_has_event_loop(thread, loop_key);
}

// May run in a signal handler.
static int describe(struct memprot_record *record, enum memprot_policy policy) {
    PyThreadState *thread = memprot_own_thread();
    if (thread) {
        memprot_describe_thread(record, thread);
        if (record->stack_overflow)
            memprot_describe_depth(record, thread);
        for (uintptr_t at = memprot_outer_context_of(0); at && record->contexts < MEMPROT_RECORD_CONTEXTS;
             at = memprot_outer_context_of(at))
            record->context[record->contexts++] = at;
        return might_meet_loop(thread) && policy == MEMPROT_POLICY_RAISE ? MEMPROT_OWNER_LISTENERS : record->thread;
    }
    thread = find_waiting_thread();
    if (!thread)
        return MEMPROT_OWNER_ANYONE;
    memprot_describe_thread(record, thread);
    return policy == MEMPROT_POLICY_RAISE && !memprot_scope_is_any_open() ? (int)thread->native_thread_id
                                                                          : MEMPROT_OWNER_ANYONE;
}

// ---- delivering

// What is on its way when a thread forks waits: raised in one of the functions that the interpreter calls for forks, it
// would end there, and leave undone what that function does. So do listeners: what they import may want to be called
// for the same fork.
static _Thread_local bool forking, withheld;

// A pending call can look where it is before it raises, and raise the instance itself; but it runs in the main thread
// only. An asynchronous exception is raised wherever the thread is, be it an event loop, and where a decision is asked
// for there may be nothing to raise. CPython 3.11 instantiates it only where it is caught, when the frames that could
// tell an array's name may be gone.
static atomic_bool raise_scheduled;

static int raise_pending(void *unused) {
    (void)unused;
    atomic_store(&raise_scheduled, false);
    if (forking) {
        withheld = true;
        return 0;
    }
    memprot_scope_tell_strays();
    PyObject *error = PyErr_Occurred() ? NULL : memprot_scope_take();
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return PyErr_Occurred() ? -1 : 0;
}

// May run in a signal handler.
static bool deliver_to_main_thread(void) {
    if (!atomic_exchange(&raise_scheduled, true) && memprot_call_later(raise_pending) < 0) {
        atomic_store(&raise_scheduled, false);
        return false;
    }
    return true;
}

// What comes up here would be raised in whatever the thread is doing; only what is meant for that is.
static int raise_or_report(void) {
    if (!PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit))
        return -1;
    PyErr_WriteUnraisable(NULL);
    return 0;
}

static int drain(void *unused) {
    (void)unused;
    atomic_store(&drain_scheduled, false);
    if (forking)
        return 0;
    (void)memprot_delivery_tell();
    return raise_or_report();
}

int memprot_delivery_tell(void) {
    int waiting = memprot_claim_is_waiting(MEMPROT_CLAIM_LISTENERS, 0);
    if (waiting <= 0 || !drain_callable)
        return waiting;
    PyObject *result = PyObject_CallNoArgs(drain_callable);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

// May run in a signal handler.
static void schedule_drain(void) {
    if (!atomic_exchange(&drain_scheduled, true) && memprot_call_later(drain) < 0)
        atomic_store(&drain_scheduled,
                     false); // the queue is full: the next record or the program's end drains
}

// To the thread that has faulted. What is not delivered its scope's end raises. May run in a signal handler.
static void deliver_here(PyThreadState *thread, int owner, enum memprot_policy policy) {
    bool is_careful = policy == MEMPROT_POLICY_ASK || is_in_inner_context(), is_scopes = owner < 0;
#if PY_VERSION_HEX < 0x030c0000
    bool is_pending = true;
#else
    bool is_pending = is_careful;
#endif
    if (is_pending && memprot_fault_in_main_thread() && deliver_to_main_thread())
        return;
    if (!is_careful || (!is_scopes && policy == MEMPROT_POLICY_RAISE))
        memprot_raise_later(thread, memprot_claim_class);
    else if (!is_scopes)
        schedule_drain();
}

// May run in a signal handler.
static void deliver(int owner, enum memprot_policy policy) {
    PyThreadState *thread = memprot_own_thread();
    if (owner == MEMPROT_OWNER_LISTENERS || (owner == MEMPROT_OWNER_ANYONE && !memprot_scope_is_any_open())) {
        schedule_drain();
    } else if (thread) {
        deliver_here(thread, owner, policy);
    } else if (owner > 0 && (thread = memprot_thread_of_main((unsigned long)owner)) != NULL) {
        memprot_raise_later(thread, memprot_claim_class);
    }
}

// Whether a fault is to be raised in the calling thread.
static bool is_waiting(void) {
    if (atomic_load_explicit(&raise_scheduled, memory_order_relaxed) && memprot_fault_in_main_thread())
        return true;
    // Written by this thread's handlers, and by those of threads without Python that work for it.
    PyObject *pending = __atomic_load_n(&PyThreadState_Get()->async_exc, __ATOMIC_RELAXED);
    return pending && pending == memprot_claim_class;
}

// fault_withhold()
static PyObject *fault_withhold(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    forking = true;
    withheld = is_waiting();
    if (withheld)
        memprot_claim_withdraw();
    Py_RETURN_NONE;
}

// fault_resume()
static PyObject *fault_resume(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyThreadState *thread = memprot_own_thread();
    if (withheld && thread && !(memprot_fault_in_main_thread() && deliver_to_main_thread()))
        memprot_raise_later(thread, memprot_claim_class);
    forking = withheld = false;
    if (memprot_record_waiting() > 0)
        schedule_drain();
    Py_RETURN_NONE;
}

const struct memprot_fault_hooks memprot_delivery_hooks = {
    .describe = describe, .deliver = deliver, .die = memprot_reporter_tell_death, .outer = memprot_outer_context_of};

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
    loop_key = PyUnicode_InternFromString("__asyncio_running_event_loop__");
    if (!loop_key || PyObject_Hash(loop_key) == -1)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
