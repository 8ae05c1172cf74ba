// What the binding has to know of CPython's inside, version by version, and nowhere else.
#pragma once

#include "binding.h"

#include <stdbool.h>

#define Py_BUILD_CORE 1
#include <internal/pycore_context.h>
#include <internal/pycore_frame.h>
#undef Py_BUILD_CORE

typedef struct _PyInterpreterFrame memprot_frame;

/// The calling thread's state, whether it holds the interpreter or not; NULL for a thread without Python.
/// May run in a signal handler.
static inline PyThreadState *memprot_own_thread(void) { return PyGILState_GetThisThreadState(); }

/// The calling thread's state when it holds the interpreter, else NULL. May run in a signal handler.
static inline PyThreadState *memprot_attached_thread(void) {
    PyThreadState *current = _PyThreadState_UncheckedGet();
#if PY_VERSION_HEX < 0x030c0000
    // One variable for all threads: it may be another thread that holds the interpreter.
    if (current != memprot_own_thread())
        return NULL;
#endif
    return current;
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

/// Whether an asyncio loop runs, or has run, in a thread that is the calling one. @p key is the str under which the
/// loop is kept. May run in a signal handler. (It compares the key by its identity, and counts no references.)
static inline bool memprot_has_event_loop(PyThreadState *thread, PyObject *key) {
    return thread->dict && _PyDict_GetItem_KnownHash(thread->dict, key, ((PyASCIIObject *)key)->hash) != NULL;
}
