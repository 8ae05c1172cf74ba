// One of so many, by chance: a program that allocates in a rhythm must not have the same blocks picked each time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// Whether it is this one's turn, of one in @p every; always when that is 1. Each thread counts by itself.
bool memprot_sample(uint32_t every);

/// A number by chance, of the calling thread's own sequence.
uint32_t memprot_sample_number(void);
