// What the binding has to know of CPython's inside, version by version, and nowhere else.
#pragma once

#include "binding.h"

#include "fault.h"

#include <stdbool.h>

#define Py_BUILD_CORE 1
#include <internal/pycore_context.h>
#include <internal/pycore_frame.h>
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#ifdef Py_GIL_DISABLED
#include <internal/pycore_gc.h>
#include <internal/pycore_object.h>
#endif
#if PY_VERSION_HEX >= 0x030d0000
#include <internal/pycore_tstate.h>
#endif
#pragma GCC diagnostic pop
#undef Py_BUILD_CORE

typedef struct _PyInterpreterFrame memprot_frame;

/// The main interpreter's state for a thread of the system, as the kernel numbers it, or NULL. May run in a signal
/// handler.
static inline PyThreadState *memprot_thread_of_main(unsigned long native_id) {
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
    while (thread && thread->native_thread_id != native_id)
        thread = PyThreadState_Next(thread);
    return thread;
}

/// The calling thread's state of the main interpreter, whether it holds that or not; NULL for a thread without any.
/// What runs in another interpreter can be told nothing of ours: objects are not shared. May run in a signal handler.
static inline PyThreadState *memprot_own_thread(void) {
    PyThreadState *bound = PyGILState_GetThisThreadState();
    if (!bound || bound->interp == PyInterpreterState_Main())
        return bound;
    // Another interpreter's state may have been made by another thread, and have that one's id.
    return memprot_thread_of_main((unsigned long)memprot_fault_thread());
}

/// Whether the main interpreter ends.
static inline bool memprot_is_ending(void) {
#if PY_VERSION_HEX < 0x030d0000
    return _Py_IsFinalizing();
#else
    return Py_IsFinalizing();
#endif
}

/// The calling thread's state when it holds the main interpreter, else NULL. May run in a signal handler.
static inline PyThreadState *memprot_attached_thread(void) {
    PyThreadState *current = _PyThreadState_UncheckedGet();
#if PY_VERSION_HEX < 0x030c0000
    // One variable for all threads: it may be another thread that holds the interpreter.
    if (current != memprot_own_thread())
        return NULL;
#endif
    return current && current->interp == PyInterpreterState_Main() ? current : NULL;
}

#if PY_VERSION_HEX < 0x030d0000
PyAPI_FUNC(void) _PyEval_SignalAsyncExc(PyInterpreterState *interpreter);
#endif

/// Has a thread raise an instance of @p exception, a class to which references need not be counted, as soon as it
/// executes Python again; one that others have set comes first. Neither the interpreter nor a lock is needed. May run
/// in a signal handler.
static inline void memprot_raise_later(PyThreadState *thread, PyObject *exception) {
    PyObject *none = NULL;
    if (!__atomic_compare_exchange_n(&thread->async_exc, &none, exception, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
#if PY_VERSION_HEX < 0x030d0000
    _PyEval_SignalAsyncExc(thread->interp);
#else
    enum { ASYNC_EXCEPTION_BIT = 1 << 3 }; // _PY_ASYNC_EXCEPTION_BIT of pycore_ceval.h
    __atomic_or_fetch(&thread->eval_breaker, ASYNC_EXCEPTION_BIT, __ATOMIC_SEQ_CST);
#endif
}

#if PY_VERSION_HEX < 0x030c0000
PyAPI_FUNC(int) _PyEval_AddPendingCall(PyInterpreterState *interpreter, int (*call)(void *), void *argument);
#endif

/// Has the main interpreter's main thread make a call soon, whichever interpreter is running here.
/// @return -1 when too many are waiting. May run in a signal handler: the queue's lock is held for a moment only, and
/// never by code that touches data.
static inline int memprot_call_later(int (*call)(void *)) {
#if PY_VERSION_HEX < 0x030c0000
    return _PyEval_AddPendingCall(PyInterpreterState_Main(), call, NULL);
#else
    return Py_AddPendingCall(call, NULL);
#endif
}

/// Whether another thread's state is the one that holds the interpreter. May run in a signal handler.
static inline bool memprot_is_attached(PyThreadState *thread) {
#if PY_VERSION_HEX < 0x030c0000
    return _PyThreadState_UncheckedGet() == thread;
#else
    return thread->_status.active;
#endif
}

/// May run in a signal handler.
static inline memprot_frame *memprot_top_frame(PyThreadState *thread) {
#if PY_VERSION_HEX < 0x030d0000
    return thread->cframe ? thread->cframe->current_frame : NULL;
#else
    return thread->current_frame;
#endif
}

/// The frame's code, or NULL for an entry the interpreter pushes for C. May run in a signal handler.
static inline PyCodeObject *memprot_frame_code(const memprot_frame *frame) {
#if PY_VERSION_HEX >= 0x030c0000
    if (frame->owner == FRAME_OWNED_BY_CSTACK)
        return NULL;
#endif
#if PY_VERSION_HEX < 0x030d0000
    return frame->f_code;
#else
    return frame->f_executable && PyCode_Check(frame->f_executable) ? (PyCodeObject *)frame->f_executable : NULL;
#endif
}

/// Where the frame is in its code. May run in a signal handler.
static inline const _Py_CODEUNIT *memprot_frame_instruction(const memprot_frame *frame) {
#if PY_VERSION_HEX < 0x030d0000
    return frame->prev_instr;
#else
    return frame->instr_ptr;
#endif
}

/// The same as a byte offset, as PyCode_Addr2Line takes it. May run in a signal handler.
static inline int memprot_frame_offset(const memprot_frame *frame, PyCodeObject *code) {
    ptrdiff_t offset = memprot_frame_instruction(frame) - _PyCode_CODE(code);
    return (int)(offset * (ptrdiff_t)sizeof(_Py_CODEUNIT));
}

/// The context around another one, or for 0 the one that the calling thread runs code in; 0 where there is none. A
/// thread enters and leaves contexts only itself, and none while it is in a handler. May run in a signal handler.
static inline uintptr_t memprot_outer_context_of(uintptr_t context) {
    const PyThreadState *thread = context ? NULL : memprot_own_thread();
    if (context)
        return (uintptr_t)((const struct _pycontextobject *)context)->ctx_prev;
    return thread ? (uintptr_t)thread->context : 0;
}

/// Whether an asyncio loop runs in a thread that is the calling one (before 3.13: or has run). @p key is the str under
/// which it is kept before 3.13. May run in a signal handler. (It compares the key by its identity, and counts no
/// references.)
static inline bool memprot_has_event_loop(PyThreadState *thread, PyObject *key) {
#if PY_VERSION_HEX < 0x030d0000
    return thread->dict && _PyDict_GetItem_KnownHash(thread->dict, key, ((PyASCIIObject *)key)->hash) != NULL;
#else
    const PyObject *loop = ((const _PyThreadStateImpl *)thread)->asyncio_running_loop;
    (void)key;
    return loop && loop != Py_None;
#endif
}

// Whoever finds an object in a list of its own may find one that another thread is about to free.

/// Lets memprot_try_reference see this object; called once for each. Such lists hold no references.
static inline void memprot_allow_try_reference(PyObject *object) {
#ifdef Py_GIL_DISABLED
    _PyObject_SetMaybeWeakref(object);
#else
    (void)object;
#endif
}

/// @return whether the object is alive; it then has one reference more.
static inline bool memprot_try_reference(PyObject *object) {
#ifdef Py_GIL_DISABLED
    return _Py_TryIncref(object);
#else
    if (Py_REFCNT(object) == 0)
        return false;
    Py_INCREF(object);
    return true;
#endif
}
