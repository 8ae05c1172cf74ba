// A program part that handles its own faults with GNU libsigsegv: a page that becomes writable when it is written to.
#include <sigsegv.h>

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static char *page;
static volatile int calls;

static int on_fault(void *address, int serious) {
    (void)serious;
    if ((char *)address < page || (char *)address >= page + sysconf(_SC_PAGESIZE))
        return 0;
    calls++;
    return mprotect(page, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE) == 0;
}

// 0 where the library took the signal over.
int sigsegv_user_begin(void) {
    if (!page)
        page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? -1 : sigsegv_install_handler(on_fault);
}

void sigsegv_user_end(void) { sigsegv_deinstall_handler(); }

// How often the handler has been called so far.
int sigsegv_user_write(void) {
    mprotect(page, (size_t)sysconf(_SC_PAGESIZE), PROT_READ);
    *(volatile char *)page = 1;
    return calls;
}
