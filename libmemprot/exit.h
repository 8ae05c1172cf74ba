// What a process leaves behind when it ends: the last words on standard error, a document, and its status.
#pragma once

#include <stddef.h>
#include <sys/types.h>

/// The document is `head`, the status, `body`, perhaps one more fault, and "]}\n".
struct memprot_exit {
    pid_t pid;         ///< the process that leaves it; its forked children leave nothing
    const char *path;  ///< of the document; NULL for none
    const char *head;  ///< JSON up to the status
    const char *body;  ///< JSON from behind the status to behind the last fault
    const char *words; ///< for standard error
    int listed;        ///< whether `body` ends with a fault
    int replacement;   ///< what status 0 becomes; 0 leaves it
};

/// Say what to leave behind; everything is copied, and what an earlier call said is forgotten.
/// From the first call on, exit(3) leaves it.
/// @return 0, or -1 with errno set.
int memprot_exit_set(const struct memprot_exit *plan);

/// Leave it all now, and nothing at exit(3): for those who end the process by _exit(2).
/// @param[in] status what the process wants to end with.
/// @return what it is to end with.
int memprot_exit_leave(int status);

/// Write the document of a process that is about to die of a signal. Should it survive, exit(3) writes
/// another.
/// @param[in] fault the JSON of a fault that the document does not have yet, `length` bytes; or NULL.
/// @return 0, also when there is nothing to write; or -1 with errno set. May run in a signal handler.
int memprot_exit_die(int signal, const char *fault, size_t length);
