// Threads that are started from now on begin with an alternate signal stack.
#pragma once

/// Stands between every loaded object and pthread_create(3). Threads of objects that are loaded later have none.
void memprot_thread_starts_watch(void);
