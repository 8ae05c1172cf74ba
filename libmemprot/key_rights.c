#include "key_rights.h"

#include <errno.h>
#include <stdbool.h>

enum { ALL_RIGHTS = MEMPROT_KEY_DISABLE_ACCESS | MEMPROT_KEY_DISABLE_WRITE, BITS_OF_A_KEY = 2 };

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdatomic.h>

// Under a hypervisor the instruction costs more than a system call, so it is asked once.
enum { UNKNOWN, ABSENT, PRESENT };
static atomic_int found;

// May run in a signal handler.
int memprot_has_key_rights(void) {
    if (atomic_load_explicit(&found, memory_order_relaxed) == UNKNOWN) {
        unsigned eax, ebx, ecx, edx;
        // OSPKE: the CPU has keys and the kernel has switched them on.
        bool present = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & bit_OSPKE) != 0;
        atomic_store_explicit(&found, present ? PRESENT : ABSENT, memory_order_relaxed);
    }
    return atomic_load_explicit(&found, memory_order_relaxed) == PRESENT;
}

// May run in a signal handler.
unsigned memprot_key_rights_read(void) {
    unsigned eax = 0, edx;
    if (memprot_has_key_rights())
        __asm__ volatile(".byte 0x0f,0x01,0xee" /* rdpkru */ : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

// May run in a signal handler.
void memprot_key_rights_write(unsigned rights) {
    if (memprot_has_key_rights())
        __asm__ volatile(".byte 0x0f,0x01,0xef" /* wrpkru */ ::"a"(rights), "c"(0), "d"(0) : "memory");
}
#else
// May run in a signal handler.
int memprot_has_key_rights(void) { return 0; }
// May run in a signal handler.
unsigned memprot_key_rights_read(void) { return 0; }
// May run in a signal handler.
void memprot_key_rights_write(unsigned rights) { (void)rights; }
#endif

// May run in a signal handler.
static int check(unsigned long key, unsigned long rights) {
    if (key < MEMPROT_KEYS && (rights & ~(unsigned long)ALL_RIGHTS) == 0 && memprot_has_key_rights())
        return 0;
    errno = key < MEMPROT_KEYS && (rights & ~(unsigned long)ALL_RIGHTS) == 0 ? ENOSYS : EINVAL;
    return -1;
}

// May run in a signal handler.
int memprot_pkey_get(unsigned long key) {
    if (check(key, 0) < 0)
        return -1;
    return (int)(memprot_key_rights_read() >> key * BITS_OF_A_KEY & ALL_RIGHTS);
}

// May run in a signal handler.
int memprot_pkey_set(unsigned long key, unsigned long rights) {
    if (check(key, rights) < 0)
        return -1;
    unsigned others = memprot_key_rights_read() & ~((unsigned)ALL_RIGHTS << key * BITS_OF_A_KEY);
    memprot_key_rights_write(others | (unsigned)rights << key * BITS_OF_A_KEY);
    return 0;
}
