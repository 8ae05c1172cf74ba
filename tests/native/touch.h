// The accesses themselves, which know nothing of Python: each function makes one, of its own kind.
#pragma once

#include <signal.h>
#include <stdint.h>
#include <string.h>

#define NOT_INLINED __attribute__((noinline, noclone))

// As PyArg_ParseTuple has it with "K".
typedef unsigned long long address_t;

// One access, as it is handed to whoever performs it.
struct access {
    address_t address, source, value, length, stride, count;
};

static volatile uint8_t *byte_at(address_t address) { return (volatile uint8_t *)(uintptr_t)address; }

NOT_INLINED static void touch_write(struct access *access) { *byte_at(access->address) = (uint8_t)access->value; }

// The kernel ends the process, whatever handler there is.
NOT_INLINED static void touch_write_with_signals_blocked(struct access *access) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *byte_at(access->address) = (uint8_t)access->value;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

NOT_INLINED static void touch_read(struct access *access) { access->value = *byte_at(access->address); }

NOT_INLINED static void touch_write64(struct access *access) {
    *(volatile uint64_t *)(uintptr_t)access->address = access->value;
}

NOT_INLINED static void touch_read64(struct access *access) {
    access->value = *(volatile uint64_t *)(uintptr_t)access->address;
}

// An atomic addition: a read and a write in one instruction.
NOT_INLINED static void touch_add64(struct access *access) {
    access->value = __atomic_fetch_add((uint64_t *)(uintptr_t)access->address, access->value, __ATOMIC_SEQ_CST);
}

NOT_INLINED static void touch_set(struct access *access) {
    void *(*volatile set)(void *, int, size_t) = memset;
    set((void *)(uintptr_t)access->address, (int)access->value, access->length);
}

NOT_INLINED static void touch_move(struct access *access) {
    void *(*volatile move)(void *, const void *, size_t) = memmove;
    move((void *)(uintptr_t)access->address, (const void *)(uintptr_t)access->source, access->length);
}

NOT_INLINED static void loop_forwards(struct access *access) {
    for (address_t i = 0; i < access->length; i++)
        *byte_at(access->address + i) = *byte_at(access->source + i);
}

NOT_INLINED static void loop_backwards(struct access *access) {
    for (address_t i = access->length; i-- > 0;)
        *byte_at(access->address + i) = *byte_at(access->source + i);
}

NOT_INLINED static void touch_stosb(struct access *access) {
#if defined(__x86_64__)
    address_t address = access->address, length = access->length;
    __asm__ volatile("rep stosb" : "+D"(address), "+c"(length) : "a"((int)access->value) : "memory");
#else
    touch_set(access);
#endif
}

NOT_INLINED static void touch_movsb(struct access *access) {
#if defined(__x86_64__)
    address_t address = access->address, source = access->source, length = access->length;
    __asm__ volatile("rep movsb" : "+D"(address), "+S"(source), "+c"(length) : : "memory");
#else
    loop_forwards(access);
#endif
}

NOT_INLINED static void loop_hammer(struct access *access) {
    for (address_t i = 0; i < access->count; i++)
        *byte_at(access->address + i * access->stride) = (uint8_t)i;
}

NOT_INLINED static void loop_until(struct access *access) {
    for (access->count = 0; *byte_at(access->source) == 0; access->count++)
        *byte_at(access->address) = (uint8_t)access->value;
}

NOT_INLINED static void touch_by_calling(struct access *access) {
    access->value = ((uint64_t (*)(void))(uintptr_t)access->address)();
}

// Goes there from the middle of a function, as a jump through a table that was overwritten does.
#if defined(__x86_64__)
__attribute__((naked)) NOT_INLINED static void touch_by_jumping(struct access *access __attribute__((unused))) {
    __asm__("push %rbp\n\tmov %rsp, %rbp\n\tpush $0\n\tjmp *(%rdi)");
}
#else
NOT_INLINED static void touch_by_jumping(struct access *access) {
    __asm__ volatile("mov x30, xzr\n\tbr %0" : : "r"(access->address) : "memory", "x30");
}
#endif

// A function that returns a floating-point number.
NOT_INLINED static double value_by_calling(struct access *access) {
    return ((double (*)(double))(uintptr_t)access->address)(1.5);
}

// By an instruction that finds the function in memory.
NOT_INLINED static void touch_by_calling_from_table(struct access *access) {
    struct {
        uint64_t (*functions[40])(void);
    } table, *volatile there = &table;
    there->functions[access->count % 40] = (uint64_t (*)(void))(uintptr_t)access->address;
    access->value = there->functions[access->count % 40]();
}
