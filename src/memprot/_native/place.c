#include "place.h"

#include "fault.h"
#include "interpreter.h"

#include <string.h>

// The loop's own code, by the end of its file's name.
static bool is_of_loop(PyCodeObject *code) {
    static const char *const files[] = {"asyncio/base_events.py", "asyncio/events.py", "asyncio/runners.py"};
    Py_ssize_t length;
    const char *file = PyUnicode_AsUTF8AndSize(code->co_filename, &length);
    if (!file)
        PyErr_Clear(); // no such file then
    for (size_t i = 0; file && i < sizeof files / sizeof *files; i++) {
        size_t size = strlen(files[i]);
        if ((size_t)length > size && strcmp(file + length - size, files[i]) == 0)
            return true;
    }
    return false;
}

// When a task's coroutine pauses or ends, the task has the loop plan what comes next, as the task and in its context:
// an exception there would stop the task for ever. Between the code of a task and the loop there is a coroutine.
static bool is_inside_coroutine(void) {
    enum { COROUTINE = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR };
    for (memprot_frame *frame = memprot_top_frame(PyThreadState_Get()); frame; frame = frame->previous) {
        PyCodeObject *code = memprot_frame_code(frame);
        if (code && (code->co_flags & COROUTINE))
            return true;
        if (code && is_of_loop(code))
            return false;
    }
    return false;
}

// Of the module _asyncio, which is all C: nothing of it can be interrupted by a delivery.
static int look_for_task(PyObject *asyncio, struct memprot_place *place) {
    PyObject *loop = PyObject_CallMethod(asyncio, "_get_running_loop", NULL);
    PyObject *tasks = NULL;
    if (loop && loop != Py_None) {
        tasks = PyObject_GetAttrString(asyncio, "_current_tasks");
        bool is_task = tasks && PyDict_Check(tasks) && PyDict_GetItemWithError(tasks, loop);
        place->code = !is_task ? MEMPROT_IN_CALLBACK : is_inside_coroutine() ? MEMPROT_IN_TASK : MEMPROT_AROUND_TASK;
    }
    Py_XDECREF(tasks);
    Py_XDECREF(loop);
    return PyErr_Occurred() ? -1 : 0;
}

int memprot_place_look(struct memprot_place *ret) {
    *ret = (struct memprot_place){.thread = memprot_fault_thread(), .context = memprot_outer_context_of(0)};
    PyObject *modules = PySys_GetObject("modules"); // none when the interpreter is ending
    PyObject *asyncio = modules && PyDict_Check(modules) ? PyDict_GetItemString(modules, "_asyncio") : NULL;
    return asyncio ? look_for_task(asyncio, ret) : 0;
}

bool memprot_place_is_of(const struct memprot_place *place, const struct memprot_record *record) {
    if (place->code == MEMPROT_WITHOUT_LOOP || record->contexts == 0)
        return true;
    if (place->code == MEMPROT_AROUND_TASK)
        return false;
    // Where the loop's own code runs it does in a context around those of all its tasks.
    uint32_t count = place->code == MEMPROT_IN_TASK ? record->contexts : 1;
    for (uint32_t i = 0; i < count && i < MEMPROT_RECORD_CONTEXTS; i++) {
        if (record->context[i] == place->context)
            return true;
    }
    return false;
}
