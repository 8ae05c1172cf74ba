#include "record_instruction.h"

#include "access.h"
#include "context.h"
#include "decode_value.h"

#include <signal.h>
#include <sys/mman.h>

_Static_assert(sizeof((struct memprot_record *)0)->value >= MEMPROT_VALUE_MAX, "a value has room");
_Static_assert(sizeof((struct memprot_record *)0)->instruction >= MEMPROT_INSTRUCTION_MAX, "an instruction has room");

// How much of the access is forbidden: from the address that faulted to its end, or to where its block begins. A
// general protection fault (an address that no address space has, or one that is not aligned as the instruction wants),
// or a check of alignment, comes without an address: only the instruction knows it. May run in a signal handler.
void memprot_record_instruction(struct memprot_record *record, ucontext_t *context) {
    struct memprot_operand operand;
    size_t missing = memprot_access_copy(record->instruction, (void *)*memprot_context_instruction(context),
                                         sizeof record->instruction);
    record->instruction_size = (uint32_t)(sizeof record->instruction - missing);
    record->size = 0;
    if (!memprot_decode_operand(record->instruction, record->instruction_size, context, record->address, &operand))
        return;
    bool readable = !record->guard && record->key == MEMPROT_NO_KEY && record->prot & PROT_READ;
    if (record->access == MEMPROT_WRITE)
        record->value_size = (uint32_t)memprot_decode_value(&operand, context, readable, record->value);
    if (!operand.known_address)
        return;
    if (record->address == 0 && (record->code == SI_KERNEL || record->signal == SIGBUS))
        record->address = operand.address;
    uintptr_t stop = operand.address + operand.size;
    if (record->block.address > record->address && stop > record->block.address)
        stop = record->block.address;
    record->size = stop - record->address;
}
