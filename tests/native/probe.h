// One access to one byte, and the signal that came of it instead of a death. x86-64 only.
//
// The handler leads the interrupted code on by changing its saved registers, so that everything else the kernel gives
// back when a handler returns, the rights of protection keys among it, is as before.
#pragma once

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum access { READ, WRITE, EXECUTE };

struct touch_result {
    uint8_t signal; // 0: no signal came
    int8_t code;
    uint8_t key;
    uint8_t unused;
};

struct touch {
    uint64_t address;
    enum access access;
    struct touch_result result;
};

// What is executed is either a zero byte pair, "add %al, (%rax)", or 0xc3, "ret", which a write left there: in single
// steps, so that one instruction is all that runs, and with rax on a byte that may be written.
__asm__(".text\n"
        "probe_read:      movzbl (%rdi), %eax\n"
        "probe_read_end:  ret\n"
        "probe_write:     movb $0xc3, (%rdi)\n"
        "probe_write_end: ret\n"
        "probe_execute:   leaq probe_scratch(%rip), %rax\n"
        "                 pushfq\n"
        "                 orq $0x100, (%rsp)\n"
        "                 popfq\n"
        "                 call *%rdi\n"
        "probe_execute_end:\n"
        "                 ret\n"
        ".local probe_scratch\n"
        ".comm probe_scratch, 8\n");

extern const char probe_read[], probe_read_end[], probe_write[], probe_write_end[], probe_execute[],
    probe_execute_end[];

static _Thread_local struct touch *volatile touched;

// May run in a signal handler.
static void end_execution(greg_t *registers) {
    if (registers[REG_RIP] != (greg_t)(uintptr_t)probe_execute_end)
        registers[REG_RSP] += 8;
    registers[REG_RIP] = (greg_t)(uintptr_t)probe_execute_end;
    registers[REG_EFL] &= ~0x100LL;
}

// May run in a signal handler.
static void lead_on(int signal, siginfo_t *information, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const char *place = (const char *)(uintptr_t)registers[REG_RIP];
    if (signal == SIGTRAP) {
        if ((uint64_t)(uintptr_t)place != touched->address)
            end_execution(registers);
        return;
    }
    touched->result.signal = (uint8_t)signal;
    touched->result.code = (int8_t)information->si_code;
    touched->result.key = information->si_code == SEGV_PKUERR ? (uint8_t)information->si_pkey : 0;
    if (place == probe_read) {
        registers[REG_RIP] = (greg_t)(uintptr_t)probe_read_end;
    } else if (place == probe_write) {
        registers[REG_RIP] = (greg_t)(uintptr_t)probe_write_end;
    } else if ((uint64_t)(uintptr_t)place == touched->address) {
        end_execution(registers);
    } else {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigaction(signal, &action, NULL); // a mistake of this program: the next round ends it
    }
}

static int probe_catch(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = lead_on};
    return sigaction(SIGSEGV, &action, NULL) || sigaction(SIGBUS, &action, NULL) || sigaction(SIGTRAP, &action, NULL);
}

static void probe_touch(struct touch *touch) {
    static const char *const places[] = {[READ] = probe_read, [WRITE] = probe_write, [EXECUTE] = probe_execute};
    touched = touch;
    uint64_t address = touch->address;
    const char *place = places[touch->access];
    __asm__ volatile("subq $128, %%rsp\n\tcall *%1\n\taddq $128, %%rsp" // the red zone below rsp is the compiler's
                     : "+D"(address)
                     : "r"(place)
                     : "rax", "memory", "cc");
}

// This thread's rights to memory with a protection key, bit 0: no access, bit 1: no writing. The rights before.
static int probe_rights(int key, unsigned rights) {
    uint32_t all, high;
    __asm__ volatile("rdpkru" : "=a"(all), "=d"(high) : "c"(0));
    uint32_t before = all >> (2 * key) & 3;
    all = (all & ~(3u << (2 * key))) | rights << (2 * key);
    __asm__ volatile("wrpkru" : : "a"(all), "c"(0), "d"(0) : "memory");
    return (int)before;
}
