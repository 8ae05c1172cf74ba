// What every C test shares: a check that says where it failed and lets the rest run.
#pragma once

#include <stdio.h>

static int failed_checks;

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            failed_checks++;                                                                                           \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                            \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
        }                                                                                                              \
    } while (0)

// Exit statuses as meson reads them.
enum { TEST_PASSED = 0, TEST_FAILED = 1, TEST_SKIPPED = 77 };
