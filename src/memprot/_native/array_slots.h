// The operations of NumPy's arrays, each of which looks for a fault of its own before it is done.
//
// The interpreter looks for exceptions from outside after calls and jumps only. A statement that is neither, such as
// array[i] = x, would raise one statement later, maybe outside the try block it stands in.
#pragma once

#include "binding.h"

/// Learns the operations of numpy.ndarray and of its flat iterator. What they are is kept: once learnt, nothing is
/// learnt again.
/// @return 0, or -1 with a Python exception set.
int memprot_array_slots_learn(PyTypeObject *ndarray, PyTypeObject *flat_iterator);

/// Gives a type of arrays, or of flat iterators, the operations that look. The following all come after learning.
void memprot_array_slots_give(PyTypeObject *array);
void memprot_array_slots_give_flat(PyTypeObject *flat_iterator);

enum memprot_array_attribute { MEMPROT_ARRAY_FLAT, MEMPROT_ARRAY_REAL, MEMPROT_ARRAY_IMAG };

/// An attribute of an array that looks when it has been set.
PyGetSetDef memprot_array_attribute(enum memprot_array_attribute which);

/// Gives them to numpy.ndarray itself.
void memprot_array_slots_replace(void);

/// Gives numpy.ndarray back what is its own, where nobody else has replaced it meanwhile.
void memprot_array_slots_take_back(void);

/// What every operation does last: raises the calling thread's fault, if one waits.
/// @param[in] result a new reference, or NULL with an exception set, which then is the fault's context.
/// @return the same, or NULL with an exception set.
PyObject *memprot_array_result(PyObject *result);
