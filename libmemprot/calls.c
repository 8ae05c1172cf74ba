#include "calls.h"

#include <unistd.h>

// May run in a signal handler.
long memprot_syscall(long number, const uint64_t words[6]) {
    return syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
