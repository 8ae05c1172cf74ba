// What the files of the binding share: each bound concept adds itself to the module.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

/// Each returns 0, or -1 with a Python exception set.
int memprot_add_array_type(PyObject *module);
int memprot_add_buffer(PyObject *module);
int memprot_add_calls(PyObject *module);
int memprot_add_claim(PyObject *module);
int memprot_add_crash(PyObject *module);
int memprot_add_delivery(PyObject *module);
int memprot_add_engine(PyObject *module);
int memprot_add_features(PyObject *module);
int memprot_add_guard(PyObject *module);
int memprot_add_kernel_error(PyObject *module);
int memprot_add_malloc(PyObject *module);
int memprot_add_mapping(PyObject *module);
int memprot_add_maps(PyObject *module);
int memprot_add_numpy(PyObject *module);
int memprot_add_peek(PyObject *module);
int memprot_add_protection(PyObject *module);
int memprot_add_python_allocators(PyObject *module);
int memprot_add_open_regions(PyObject *module);
int memprot_add_probe(PyObject *module);
int memprot_add_region(PyObject *module);
int memprot_add_region_access(PyObject *module);
int memprot_add_scope(PyObject *module);

struct memprot_mapping;

/// A Mapping of what was parsed.
/// @param[in] path the str of its path, which mappings may share; NULL makes one where there is a path.
/// @return a new reference, or NULL with a Python exception set.
PyObject *memprot_new_mapping(const struct memprot_mapping *mapping, PyObject *path);

/// @return the `path` attribute of a Mapping: a borrowed str or None.
PyObject *memprot_mapping_path(PyObject *mapping);

/// A number from an int that is no bool: TypeError otherwise, OverflowError outside 64 bits.
/// @param[out] negative set when the number was below zero; ret is then its two's complement.
/// @return 0, or -1 with a Python exception set that names the parameter.
int memprot_as_number(const char *function, const char *parameter, PyObject *object, int *negative, uint64_t *ret);
int memprot_add_suppressions(PyObject *module);
int memprot_add_symbols(PyObject *module);
int memprot_add_exit(PyObject *module);
int memprot_add_interpose(PyObject *module);
int memprot_add_unraised(PyObject *module);
int memprot_add_open_scopes(PyObject *module);
int memprot_add_policy_names(PyObject *module);
