// Starts memprot in a program that has no interpreter, and hides the traces of how it came there.
#include "environment.h"

#include "program.h"
#include "suppression_words.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACTIVATION   "MEMPROT_PROGRAM"
#define SUPPRESSIONS "MEMPROT_PROGRAM_SUPPRESSIONS"
#define FOLLOW       "MEMPROT_FOLLOW"

static void complain(void) {
    static const char words[] =
        "memprot: the fault engine could not start, so the program's faults are not reported.\n";
    if (write(STDERR_FILENO, words, sizeof words - 1) < 0)
        return; // nobody is left to be told
}

static void suppress(const char *words) {
    char *copy = words ? strdup(words) : NULL;
    struct memprot_suppressions *suppressions = copy ? memprot_suppressions_read(copy) : NULL;
    if (suppressions)
        memprot_program_suppress(suppressions);
}

__attribute__((constructor)) static void start(void) {
    const char *activation = getenv(ACTIVATION);
    if (!activation)
        return;
    // It is a word of the block that the program may write into as it likes.
    char **environment = memprot_environment_copy_without_memprot();
    if (!environment || memprot_program_start(activation, environment) < 0)
        complain();
    suppress(getenv(SUPPRESSIONS));
    if (!getenv(FOLLOW))
        memprot_environment_forget_memprot();
}
