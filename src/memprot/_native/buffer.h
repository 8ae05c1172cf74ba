// The bytes of an object with a buffer.
#pragma once

#include "binding.h"

#include <stdbool.h>

/// Takes the buffer, read-only ones too.
/// @param[out] raw whether the bytes are data and not references to objects, as far as the protocol tells.
/// @return 0, or -1 with a Python exception set.
int memprot_buffer_take(PyObject *object, Py_buffer *view, bool *raw);

/// The range from the lowest to the highest byte; negative strides count downwards.
void memprot_buffer_span(const Py_buffer *view, uint64_t *address, uint64_t *size);
