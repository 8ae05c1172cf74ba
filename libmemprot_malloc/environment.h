// The environment of a program that memprot was preloaded into, and what it would be without.
#pragma once

/// A copy without what memprot put there, for programs that memprot starts itself; NULL when there is no memory.
char **memprot_environment_copy_without_memprot(void);

/// Takes it out of the program's environment, in its place: main may have been given it as an argument.
void memprot_environment_forget_memprot(void);
