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

/// Gives a type of arrays, or of flat iterators, the operations that look; numpy.ndarray itself may be one.
void memprot_array_slots_give(PyTypeObject *array);
void memprot_array_slots_give_flat(PyTypeObject *flat_iterator);

/// Gives numpy.ndarray and its flat iterator back what is theirs, where nobody else has replaced it meanwhile.
void memprot_array_slots_take_back(void);

/// What every operation does last: raises the calling thread's fault, if one waits.
/// @param[in] result a new reference, or NULL with an exception set, which then is the fault's context.
/// @return the same, or NULL with an exception set.
PyObject *memprot_array_result(PyObject *result);
