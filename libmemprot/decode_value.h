// What the instruction that faulted was about to write.
#pragma once

#include "decode.h"
#include "vector_register.h"

/// The most bytes that a value has.
enum { MEMPROT_VALUE_MAX = MEMPROT_VECTOR_MAX };

/// Find the bytes that an instruction would have stored at the address of its operand.
///
/// Known are plain stores of registers and immediates, general and vector ones, pushes, additions and other
/// arithmetic on memory that may be read, exchanges, of rep stos the next element, and of rep movs the next bytes, as
/// many as there is room for. Everything else, and all of aarch64, is answered with 0.
///
/// May run in a signal handler.
/// @param operand As memprot_decode_operand() gave it.
/// @param context As memprot_decode_operand() was given it.
/// @param readable Whether the interrupted code may read what it writes to; what is there now may not be its own.
/// @param[out] ret Room for MEMPROT_VALUE_MAX bytes.
/// @return How many they are; 0 when they are not known.
size_t memprot_decode_value(const struct memprot_operand *operand, const ucontext_t *context, bool readable,
                            uint8_t *ret);
