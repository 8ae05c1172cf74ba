// The program break (brk(2)), moved so that the C library knows of it.
//
// The C library's malloc raises the break too and remembers where it left it. Moved behind its back, it would next
// time set the break where it believes it belongs, and take the memory in between away.
#pragma once

#include <stdint.h>

/// Moves the break. The kernel answers by where the break is then; this tells whether that is what was asked for.
/// @param[in] address where to; 0 only asks.
/// @return where the break is, or UINTPTR_MAX with errno ENOMEM when it is not at @p address.
uintptr_t memprot_brk(uintptr_t address);

/// @return where the break was, or UINTPTR_MAX with errno ENOMEM and the break where it was.
uintptr_t memprot_break_raise(uintptr_t bytes);
uintptr_t memprot_break_lower(uintptr_t bytes);
