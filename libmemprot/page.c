#include "page.h"

#include <unistd.h>

size_t memprot_page_bytes;
unsigned memprot_page_shift;

__attribute__((constructor)) static void ask(void) {
    memprot_page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    memprot_page_shift = (unsigned)__builtin_ctzl(memprot_page_bytes);
}
