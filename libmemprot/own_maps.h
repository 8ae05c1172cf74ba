// The mappings of the process itself, asked for through one descriptor that is kept for as long as the process lives.
//
// Opening the file costs six times what a question does. That the program has closed the descriptor, or uses its number
// for another file, is noticed, and another one is opened.
#pragma once

#include "mapping.h"

#include <stdbool.h>

/// The open file, /proc/self/maps. It stays open; nobody else closes it.
/// @return -1 with errno set when there is none. May run in a signal handler.
int memprot_own_maps_descriptor(void);

/// The mapping that holds an address, or else the first one behind it; path and kind are not looked at.
/// @return 1 found, 0 nothing is mapped from there on, -1 with errno set.
int memprot_own_maps_next(uint64_t address, struct memprot_mapping *ret);

/// The same where the kernel answers questions about single addresses; -1 with errno ENOTTY where it does not. May run
/// in a signal handler.
int memprot_own_maps_ask(uint64_t address, struct memprot_mapping *ret);

/// The same, with the path where there is room for one, and on any kernel: where it answers no questions its text is
/// read, which takes as long as that is. May run in a signal handler.
int memprot_own_maps_find(uint64_t address, struct memprot_mapping *ret, char *path, size_t capacity);

/// The same as memprot_own_maps_ask without a look at whether the descriptor is still ours, which costs half as much as
/// the question: for who knows what the answer should be, and asks in earnest when it is another one. May run in a
/// signal handler.
int memprot_own_maps_glance(uint64_t address, struct memprot_mapping *ret);

/// Whether it is open. May run in a signal handler.
bool memprot_own_maps_is_open(void);

/// Closes the descriptor; the next question opens another one. In a forked child it speaks of the parent.
void memprot_own_maps_close(void);
