// Which elements of a vector an AVX-512 move under a mask moves.
#pragma once

#include "decode_size.h"

#include <ucontext.h>

/// Narrows the operand of a masked move to the elements that take part, where these are neighbours.
///
/// May run in a signal handler. Source: Intel SDM volume 2, chapter 2.7.
/// @param instruction Its mask is not 0; @ref skipped is filled in.
/// @param address,size Of the whole vector; narrowed when the answer is true.
/// @return False for what is no plain move, and for a mask with gaps or without an element.
bool memprot_decode_mask(const ucontext_t *context, struct memprot_instruction *instruction, uintptr_t *address,
                         size_t *size);
