// Executes real instructions against a page without rights and compares what the decoder says in the signal
// handler with what each instruction is known to do.
#include "check.h"
#include "decode.h"
#include "vector_register.h"

#if !defined(__x86_64__)

int main(void) { return TEST_SKIPPED; }

#else

#include "instructions.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096 };

// Three pages: none, read and write, none. The borders are where the middle one starts and stops.
static uint8_t *lower_border, *upper_border;

static sigjmp_buf after_fault;
static struct {
    bool faulted, decoded;
    uintptr_t address;
    struct memprot_operand operand;
} seen;

static void on_fault(int signo, siginfo_t *info, void *context) {
    (void)signo;
    const ucontext_t *saved = context;
    uint8_t code[MEMPROT_INSTRUCTION_MAX];
    struct iovec local = {code, sizeof code};
    struct iovec remote = {(void *)saved->uc_mcontext.gregs[REG_RIP], sizeof code};
    ssize_t available = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    seen.faulted = true;
    seen.address = (uintptr_t)info->si_addr;
    seen.decoded =
        memprot_decode_operand(code, available < 0 ? 0 : (size_t)available, saved, seen.address, &seen.operand);
    siglongjmp(after_fault, 1);
}

static void touch(void (*instruction)(uint8_t *), uint8_t *target) {
    memset(&seen, 0, sizeof seen);
    if (sigsetjmp(after_fault, 1) == 0)
        instruction(target);
}

static bool cpu_has(enum needs needs) {
    switch (needs) {
    case AVX:
        return __builtin_cpu_supports("avx");
    case AVX2:
        return __builtin_cpu_supports("avx2");
    case AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw");
    default:
        return true;
    }
}

#define DEFINE(name, text, needs, size, distance, alignment)                                                           \
    __attribute__((noinline)) static void name(uint8_t *target) {                                                      \
        __asm__ volatile(text : "+D"(target) : : "rax", "rcx", "rdx", "r12", "r13", "xmm0", "xmm1", "cc", "memory");   \
    }
INSTRUCTIONS(DEFINE)

#define ROW(name, text, needs, size, distance, alignment) {#name, name, needs, size, distance, alignment},
static const struct {
    const char *name;
    void (*function)(uint8_t *);
    enum needs needs;
    size_t size;
    ptrdiff_t distance;
    size_t alignment;
} instructions[] = {INSTRUCTIONS(ROW)};

static void check_instruction_at(size_t i, uint8_t *operand) {
    const char *name = instructions[i].name;
    touch(instructions[i].function, operand - instructions[i].distance);
    CHECK(seen.faulted, "%s at %p", name, (void *)operand);
    CHECK(seen.decoded == (instructions[i].size != 0), "%s", name);
    if (!seen.decoded)
        return;
    CHECK(seen.operand.size == instructions[i].size, "%s: %zu, not %zu", name, seen.operand.size, instructions[i].size);
    CHECK(seen.operand.known_address && seen.operand.address == (uintptr_t)operand, "%s: %#lx, not %p", name,
          seen.operand.address, (void *)operand);
}

static void test_each_instruction_has_its_size_and_address(void) {
    for (size_t i = 0; i < sizeof instructions / sizeof *instructions; i++) {
        if (!cpu_has(instructions[i].needs))
            continue;
        check_instruction_at(i, upper_border + 1024);
        // The fault address of an operand across the border is the border, not the operand's start.
        if (instructions[i].alignment == 1 && instructions[i].size > 1)
            check_instruction_at(i, upper_border - 1);
    }
}

static void test_the_end_of_a_relative_address_counts_the_immediate(void) {
    static uint8_t pages[2 * PAGE] __attribute__((aligned(PAGE)));
    uint8_t *target = pages + PAGE + 8;
    if (mprotect(pages + PAGE, PAGE, PROT_NONE) < 0)
        abort();
    memset(&seen, 0, sizeof seen);
    if (sigsetjmp(after_fault, 1) == 0)
        __asm__ volatile("movl $5, %0" : "=m"(*(uint32_t *)(pages + PAGE + 8)));
    CHECK(seen.decoded && seen.operand.size == 4 && seen.operand.address == (uintptr_t)target, "%#lx, not %p",
          seen.operand.address, (void *)target);
    memset(&seen, 0, sizeof seen);
    if (sigsetjmp(after_fault, 1) == 0)
        __asm__ volatile("movb %%al, %0" : "=m"(*(pages + PAGE + 8)));
    CHECK(seen.decoded && seen.operand.size == 1 && seen.operand.address == (uintptr_t)target, "%#lx, not %p",
          seen.operand.address, (void *)target);
    if (mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE) < 0)
        abort();
}

__attribute__((noinline)) static void store_by_thread_segment(uint8_t *target) {
    __asm__ volatile("movq %%fs:0, %%rax; subq %%rax, %%rdi; movw %%ax, %%fs:(%%rdi)"
                     : "+D"(target)
                     :
                     : "rax", "cc", "memory");
}

static void test_an_address_relative_to_a_segment_is_unknown_but_its_size_is_not(void) {
    touch(store_by_thread_segment, upper_border);
    CHECK(seen.decoded && seen.operand.size == 2 && !seen.operand.known_address, "%zu", seen.operand.size);
}

// Which registers a string instruction starts with.
static struct {
    uint8_t *source, *destination;
    size_t count;
} string;

#define STRING(name, text)                                                                                             \
    __attribute__((noinline)) static void name(uint8_t *unused) {                                                      \
        (void)unused;                                                                                                  \
        __asm__ volatile(text "; cld"                                                                                  \
                         : "+S"(string.source), "+D"(string.destination), "+c"(string.count)                           \
                         : "a"(1)                                                                                      \
                         : "cc", "memory");                                                                            \
    }
STRING(rep_stosb, "rep stosb")
STRING(rep_stosq, "rep stosq")
STRING(rep_stosw_backwards, "std; rep stosw")
STRING(rep_movsb, "rep movsb")
STRING(rep_movsq, "rep movsq")
STRING(rep_movsl_backwards, "std; rep movsl")
STRING(repne_scasb, "repne scasb")
STRING(repe_cmpsl, "repe cmpsl")
STRING(lodsq, "lodsq")
STRING(rep_stosb_none, "rep stosb; movb %%al, (%%rdi)")

// Runs one whose operand is [start, stop), which is what remains of [operand_start, operand_stop).
static void check_string(const char *name, void (*instruction)(uint8_t *), uint8_t *operand_start,
                         uint8_t *operand_stop, bool backwards) {
    touch(instruction, NULL);
    uintptr_t start = seen.operand.address, stop = start + seen.operand.size;
    CHECK(seen.decoded && seen.operand.known_address, "%s", name);
    CHECK(start <= seen.address && seen.address < stop, "%s: [%#lx, %#lx)", name, start, stop);
    if (backwards) {
        CHECK(start == (uintptr_t)operand_start, "%s: %#lx, not %p", name, start, (void *)operand_start);
        CHECK(stop <= (uintptr_t)operand_stop, "%s: %#lx beyond %p", name, stop, (void *)operand_stop);
    } else {
        CHECK(start >= (uintptr_t)operand_start, "%s: %#lx before %p", name, start, (void *)operand_start);
        CHECK(stop == (uintptr_t)operand_stop, "%s: %#lx, not %p", name, stop, (void *)operand_stop);
    }
}

static void test_a_string_instruction_has_all_that_is_left_to_do(void) {
    string = (typeof(string)){NULL, upper_border - 100, 300};
    check_string("rep stosb", rep_stosb, upper_border - 100, upper_border + 200, false);
    string = (typeof(string)){NULL, upper_border - 100, 30};
    check_string("rep stosq", rep_stosq, upper_border - 100, upper_border + 140, false);
    string = (typeof(string)){NULL, lower_border + 98, 100};
    check_string("rep stosw backwards", rep_stosw_backwards, lower_border - 100, lower_border + 100, true);
    string = (typeof(string)){lower_border, upper_border - 7, 50};
    check_string("rep movsb write", rep_movsb, upper_border - 7, upper_border + 43, false);
    string = (typeof(string)){upper_border - 8, lower_border, 50};
    check_string("rep movsq read", rep_movsq, upper_border - 8, upper_border + 392, false);
    string = (typeof(string)){upper_border - 4, lower_border + 4, 10};
    check_string("rep movsl backwards write", rep_movsl_backwards, lower_border - 32, lower_border + 8, true);
}

static void test_a_search_has_only_the_element_it_stopped_at(void) {
    memset(lower_border, 0, PAGE);
    string = (typeof(string)){NULL, upper_border - 10, SIZE_MAX};
    check_string("repne scasb", repne_scasb, upper_border, upper_border + 1, false);
    string = (typeof(string)){upper_border - 40, lower_border, 100};
    check_string("repe cmpsl", repe_cmpsl, upper_border, upper_border + 4, false);
    string = (typeof(string)){upper_border - 3, NULL, 0};
    check_string("lodsq", lodsq, upper_border - 3, upper_border + 5, false);
}

static void test_a_string_instruction_of_no_elements_accesses_nothing(void) {
    string = (typeof(string)){NULL, upper_border, 0};
    touch(rep_stosb_none, NULL);
    CHECK(seen.decoded && seen.operand.size == 1, "the fault is that of the instruction after it");
}

static void *(*volatile call_memset)(void *, int, size_t) = memset;
static void *(*volatile call_memmove)(void *, const void *, size_t) = memmove;
static size_t library_size;
static const uint8_t *library_source;

static void library_memset(uint8_t *target) { call_memset(target, 1, library_size); }
static void library_memmove(uint8_t *target) { call_memmove(target, library_source, library_size); }

// Masks are used for short ends only, so what is longer must be known.
static void check_library_call(const char *name, void (*function)(uint8_t *), uint8_t *target) {
    static const size_t longer_than_any_vector = 256;
    touch(function, target);
    uintptr_t start = seen.operand.address, stop = start + seen.operand.size;
    CHECK(seen.faulted, "%s of %zu", name, library_size);
    CHECK(seen.decoded || library_size <= longer_than_any_vector, "%s of %zu", name, library_size);
    if (!seen.decoded)
        return;
    CHECK(start <= seen.address && seen.address < stop, "%s of %zu: [%#lx, %#lx)", name, library_size, start, stop);
    CHECK((uintptr_t)target <= start && stop <= (uintptr_t)target + library_size, "%s of %zu: [%#lx, %#lx) at %p", name,
          library_size, start, stop, (void *)target);
}

static void test_what_libc_does_lies_within_its_arguments(void) {
    for (size_t size = 1; size <= 2 * PAGE - 1; size = size < 300 ? size + 1 : size * 5 / 4) {
        size_t inside = size - 1 < PAGE ? size - 1 : PAGE;
        library_size = size;
        library_source = lower_border;
        check_library_call("memset", library_memset, upper_border - inside);
        check_library_call("memset", library_memset, upper_border - inside / 2);
        if (size <= PAGE) {
            check_library_call("memmove", library_memmove, upper_border - inside);
            check_library_call("memmove", library_memmove, lower_border - 1);
        }
    }
}

static void call_data(uint8_t *target) { ((void (*)(void))(uintptr_t)target)(); }

static void test_an_instruction_that_cannot_be_fetched_is_not_decoded(void) {
    touch(call_data, upper_border);
    CHECK(seen.faulted && !seen.decoded, "called %p", (void *)upper_border);
}

static void test_bytes_that_were_not_read_are_not_decoded(void) {
    static const uint8_t code[] = {0x66, 0x41, 0xc7, 0x84, 0x90, 0x44,
                                   0x33, 0x22, 0x11, 0x34, 0x12}; // movw $0x1234, 0x11223344(r8+4rdx)
    ucontext_t context = {0};
    struct memprot_operand operand = {0};
    for (size_t available = 0; available < sizeof code; available++)
        CHECK(!memprot_decode_operand(code, available, &context, 0, &operand), "%zu bytes", available);
    CHECK(memprot_decode_operand(code, sizeof code, &context, 0, &operand), "%zu bytes", sizeof code);
    CHECK(operand.address == 0x11223344 && operand.size == 2, "%#lx, %zu", operand.address, operand.size);
}

static void test_a_page_fault_elsewhere_is_not_the_operands(void) {
    static const uint8_t code[] = {0x88, 0x07}; // movb %al, (%rdi)
    ucontext_t context = {0};
    struct memprot_operand operand = {0};
    context.uc_mcontext.gregs[REG_RDI] = 0x5000;
    context.uc_mcontext.gregs[REG_TRAPNO] = 14;
    CHECK(!memprot_decode_operand(code, sizeof code, &context, 0x4fff, &operand), "%#lx", operand.address);
    CHECK(!memprot_decode_operand(code, sizeof code, &context, 0x5001, &operand), "%#lx", operand.address);
    CHECK(memprot_decode_operand(code, sizeof code, &context, 0x5000, &operand), "%#lx", operand.address);
}

__attribute__((noinline)) static void store_4(uint8_t *target) { *(volatile uint32_t *)target = 1; }

static void test_an_address_the_kernel_cannot_name_is_the_operands(void) {
    uint8_t *not_canonical = (uint8_t *)0x4141414141414140;
    touch(store_4, not_canonical);
    CHECK(seen.faulted && seen.address == 0, "%#lx", seen.address);
    CHECK(seen.decoded && seen.operand.address == (uintptr_t)not_canonical && seen.operand.size == 4, "%#lx",
          seen.operand.address);
}

int main(void) {
    uint8_t *pages = mmap(NULL, 5 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (pages == MAP_FAILED || mprotect(pages + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE) < 0 ||
        sigaction(SIGSEGV, &action, NULL) < 0 || sigaction(SIGBUS, &action, NULL) < 0) {
        perror("test_decode");
        return TEST_FAILED;
    }
    memprot_vector_register_prepare();
    lower_border = pages + 2 * PAGE;
    upper_border = pages + 3 * PAGE;
    test_each_instruction_has_its_size_and_address();
    test_the_end_of_a_relative_address_counts_the_immediate();
    test_an_address_relative_to_a_segment_is_unknown_but_its_size_is_not();
    test_a_string_instruction_has_all_that_is_left_to_do();
    test_a_search_has_only_the_element_it_stopped_at();
    test_a_string_instruction_of_no_elements_accesses_nothing();
    test_what_libc_does_lies_within_its_arguments();
    test_an_instruction_that_cannot_be_fetched_is_not_decoded();
    test_bytes_that_were_not_read_are_not_decoded();
    test_a_page_fault_elsewhere_is_not_the_operands();
    test_an_address_the_kernel_cannot_name_is_the_operands();
    return failed_checks ? TEST_FAILED : TEST_PASSED;
}

#endif
