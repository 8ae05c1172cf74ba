// Every function here has one bug, and a correct version: SEEDED says on the spot what they differ in.
#pragma once

#ifdef CORRECT
#define SEEDED(right, wrong) right
#else
#define SEEDED(right, wrong) wrong
#endif
