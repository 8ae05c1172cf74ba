#include "page.h"

#include <unistd.h>

static size_t size;

// May run in a signal handler. (sysconf reads the auxiliary vector here; racing threads store the same value.)
size_t memprot_page_size(void) {
    if (!size)
        size = (size_t)sysconf(_SC_PAGESIZE);
    return size;
}
