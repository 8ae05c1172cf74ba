#include "place.h"

#include "fault.h"
#include "interpreter.h"

// Of the module _asyncio, which is all C: nothing of it can be interrupted by a delivery.
static int look_for_task(PyObject *asyncio, struct memprot_place *place) {
    PyObject *loop = PyObject_CallMethod(asyncio, "_get_running_loop", NULL);
    PyObject *tasks = NULL;
    if (loop && loop != Py_None) {
        place->in_loop = true;
        tasks = PyObject_GetAttrString(asyncio, "_current_tasks");
        place->in_task = tasks && PyDict_Check(tasks) && PyDict_GetItemWithError(tasks, loop);
    }
    Py_XDECREF(tasks);
    Py_XDECREF(loop);
    return PyErr_Occurred() ? -1 : 0;
}

int memprot_place_look(struct memprot_place *ret) {
    *ret = (struct memprot_place){.thread = memprot_fault_thread(), .context = memprot_outer_context_of(0)};
    PyObject *modules = PyImport_GetModuleDict(), *asyncio = PyDict_GetItemString(modules, "_asyncio");
    return asyncio ? look_for_task(asyncio, ret) : 0;
}

bool memprot_place_is_of(const struct memprot_place *place, const struct memprot_record *record) {
    if (!place->in_loop || record->contexts == 0)
        return true;
    // The loop itself may be running, in a context around those of all its tasks.
    uint32_t count = place->in_task ? record->contexts : 1;
    for (uint32_t i = 0; i < count && i < MEMPROT_RECORD_CONTEXTS; i++) {
        if (record->context[i] == place->context)
            return true;
    }
    return false;
}
