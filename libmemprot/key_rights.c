#include "key_rights.h"

#include <errno.h>

enum { ALL_RIGHTS = MEMPROT_KEY_DISABLE_ACCESS | MEMPROT_KEY_DISABLE_WRITE, BITS_OF_A_KEY = 2 };

#if defined(__x86_64__)
#include <cpuid.h>

// May run in a signal handler.
int memprot_has_key_rights(void) {
    unsigned eax, ebx, ecx, edx;
    // OSPKE: the CPU has keys and the kernel has switched them on.
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & bit_OSPKE) != 0;
}

// May run in a signal handler.
static unsigned read_register(void) {
    unsigned eax, edx;
    __asm__ volatile(".byte 0x0f,0x01,0xee" /* rdpkru */ : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

// May run in a signal handler.
static void write_register(unsigned value) {
    __asm__ volatile(".byte 0x0f,0x01,0xef" /* wrpkru */ ::"a"(value), "c"(0), "d"(0) : "memory");
}
#else
// May run in a signal handler.
int memprot_has_key_rights(void) { return 0; }
// May run in a signal handler.
static unsigned read_register(void) { return 0; }
// May run in a signal handler.
static void write_register(unsigned value) { (void)value; }
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
    return (int)(read_register() >> key * BITS_OF_A_KEY & ALL_RIGHTS);
}

// May run in a signal handler.
int memprot_pkey_set(unsigned long key, unsigned long rights) {
    if (check(key, rights) < 0)
        return -1;
    unsigned others = read_register() & ~((unsigned)ALL_RIGHTS << key * BITS_OF_A_KEY);
    write_register(others | (unsigned)rights << key * BITS_OF_A_KEY);
    return 0;
}
