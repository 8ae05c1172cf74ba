// memprot._native: the only code that knows both C and Python. One file per bound concept; this one gathers
// them.
#include "binding.h"

static int execute(PyObject *module) {
    // Signal handlers and the address space belong to the process; the objects that faults become to one interpreter.
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "memprot works in the main interpreter only: it handles the faults of the "
                                           "whole process, those in other interpreters too; import it there");
        return -1;
    }
    // clang-format off
    int (*const additions[])(PyObject *) = {
        memprot_add_array_type,
        memprot_add_buffer,
        memprot_add_calls,
        memprot_add_claim,
        memprot_add_crash,
        memprot_add_delivery,
        memprot_add_engine,
        memprot_add_exit,
        memprot_add_features,
        memprot_add_guard,
        memprot_add_interpose,
        memprot_add_kernel_error,
        memprot_add_malloc,
        memprot_add_mapping,
        memprot_add_maps,
        memprot_add_numpy,
        memprot_add_open_regions,
        memprot_add_open_scopes,
        memprot_add_peek,
        memprot_add_policy_names,
        memprot_add_probe,
        memprot_add_protection,
        memprot_add_python_allocators,
        memprot_add_region,
        memprot_add_region_access,
        memprot_add_scope,
        memprot_add_suppressions,
        memprot_add_symbols,
        memprot_add_unraised,
    };
    // clang-format on
    for (size_t i = 0; i < sizeof additions / sizeof *additions; i++) {
        if (additions[i](module) < 0)
            return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, // so that it is we who refuse
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED}, // see critical_section.h
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "memprot._native",
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
