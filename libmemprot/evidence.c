#include "evidence.h"

#include "guard.h"
#include "native_stacks.h"

#include <string.h>

static struct memprot_evidence_source asked;

void memprot_evidence_ask(const struct memprot_evidence_source *source) { asked = *source; }

// The next of the frames in a record's text. May run in a signal handler.
static const char *next_frame(const char *at, int32_t *line, const char **file, const char **function) {
    memcpy(line, at, sizeof *line);
    *file = at + sizeof *line;
    *function = *file + strlen(*file) + 1;
    return *function + strlen(*function) + 1;
}

// May run in a signal handler.
void memprot_evidence_put_frames(struct output *out, const struct memprot_record *record) {
    const char *at = record->text, *end = at + record->text_length, *file, *function;
    int32_t line;
    put_byte(out, '[');
    while (at < end) {
        if (at != record->text)
            put_byte(out, ',');
        at = next_frame(at, &line, &file, &function);
        put_byte(out, '[');
        put_string(out, file);
        put_member(out, ",", (uint64_t)(line < 0 ? 0 : line));
        put_byte(out, ',');
        put_string(out, function);
        put_byte(out, ']');
    }
    put_byte(out, ']');
}

// May run in a signal handler.
static void put_registers(struct output *out, const ucontext_t *context) {
#if defined(__x86_64__)
    static const struct {
        const char *name;
        int index;
    } registers[] = {
        {"rip", REG_RIP}, {"rsp", REG_RSP}, {"rbp", REG_RBP}, {"rax", REG_RAX}, {"rbx", REG_RBX}, {"rcx", REG_RCX},
        {"rdx", REG_RDX}, {"rsi", REG_RSI}, {"rdi", REG_RDI}, {"r8", REG_R8},   {"r9", REG_R9},   {"r10", REG_R10},
        {"r11", REG_R11}, {"r12", REG_R12}, {"r13", REG_R13}, {"r14", REG_R14}, {"r15", REG_R15}, {"eflags", REG_EFL},
    };
    for (size_t i = 0; i < sizeof registers / sizeof *registers; i++) {
        put(out, i ? ",\"" : "\"");
        put(out, registers[i].name);
        put(out, "\":");
        put_number(out, (uint64_t)context->uc_mcontext.gregs[registers[i].index], 10);
    }
#elif defined(__aarch64__)
    put_member(out, "\"pc\":", context->uc_mcontext.pc);
    put_member(out, ",\"sp\":", context->uc_mcontext.sp);
    for (unsigned i = 0; i < 31; i++) {
        put_member(out, ",\"x", i);
        put_member(out, "\":", context->uc_mcontext.regs[i]);
    }
#endif
}

// For each owner the numbers that memprot_guard_counts gives. May run in a signal handler.
void memprot_evidence_put_guarded(struct output *out) {
    put(out, "\"guarded\":[");
    for (unsigned owner = 0; owner < MEMPROT_GUARD_OWNERS; owner++) {
        struct memprot_guard_statistics now;
        struct memprot_guard_count counts[MEMPROT_GUARD_COUNTS];
        memprot_guard_peek_statistics((enum memprot_guard_owner)owner, &now);
        memprot_guard_counts(&now, counts);
        put(out, owner ? ",[" : "[");
        for (size_t i = 0; i < MEMPROT_GUARD_COUNTS; i++)
            put_member(out, i ? "," : "", counts[i].value);
        put_byte(out, ']');
    }
    put_byte(out, ']');
}

// May run in a signal handler.
static void put_instructions(struct output *out, const uintptr_t *instructions, uint32_t count) {
    put_byte(out, '[');
    for (uint32_t i = 0; i < count; i++)
        put_member(out, i ? "," : "", instructions[i]);
    put_byte(out, ']');
}

// [Python's frames, return addresses]. May run in a signal handler.
static void put_origin(struct output *out, const char *name, const struct memprot_origin *origin) {
    static struct memprot_record scratch;
    scratch.text_length = 0;
    if (asked.describe_stack)
        asked.describe_stack(&scratch, origin->python);
    uintptr_t calls[MEMPROT_NATIVE_DEPTH];
    put(out, ",\"");
    put(out, name);
    put(out, "\":[");
    memprot_evidence_put_frames(out, &scratch);
    put_byte(out, ',');
    put_instructions(out, calls, memprot_native_stack_read(origin->native, calls, MEMPROT_NATIVE_DEPTH));
    put_byte(out, ']');
}

// May run in a signal handler.
static void put_block(struct output *out, const struct memprot_block *block) {
    put_member(out, ",\"block\":[", block->address);
    put_member(out, ",", block->size);
    put(out, block->is_freed ? ",true" : ",false");
    put_member(out, ",", block->pooled ? block->owner : MEMPROT_GUARD_OWNERS);
    put_member(out, ",", (uint64_t)block->freed.thread);
    put_byte(out, ']');
    put_origin(out, "allocated", &block->allocated);
    put_origin(out, "freed", &block->freed);
}

// May run in a signal handler.
void memprot_evidence_put(struct output *out, const struct memprot_record *record, const ucontext_t *context) {
    put_member(out, "{\"signal\":", (uint64_t)record->signal);
    put_member(out, ",\"code\":", (uint64_t)record->code);
    put(out, ",\"key\":");
    if (record->key == MEMPROT_NO_KEY)
        put(out, "null");
    else
        put_number(out, (uint64_t)record->key, 10);
    put_member(out, ",\"access\":", record->access);
    put_member(out, ",\"address\":", record->address);
    put_member(out, ",\"size\":", record->size);
    put_member(out, ",\"guard\":", record->guard);
    if (record->stack_overflow)
        put_member(out, ",\"depth\":", record->depth);
    put_member(out, ",\"thread\":", (uint64_t)record->thread);
    put(out, ",\"name\":");
    put_string(out, record->name);
    put_member(out, ",\"finding\":", record->finding);
    if (record->call) {
        put(out, ",\"call\":[");
        put_string(out, record->call);
        put_member(out, ",", (uint64_t)record->transferred);
        put_byte(out, ']');
    }
    if (record->block.address)
        put_block(out, &record->block);
    put(out, ",\"instructions\":");
    put_instructions(out, record->pc, record->pcs);
    put(out, ",");
    memprot_evidence_put_guarded(out);
    put(out, ",\"python\":");
    if (record->interpreted)
        memprot_evidence_put_frames(out, record);
    else
        put(out, "null");
    put_bytes(out, ",\"machine_code\":", record->instruction, record->instruction_size);
    put_bytes(out, ",\"value\":", record->value, record->value_size);
    put_member(out, ",\"time\":", record->time);
    put(out, ",\"registers\":{");
    if (context)
        put_registers(out, context);
    put(out, "},\"threads\":[");
    if (asked.put_threads)
        asked.put_threads(out);
    put(out, "]}\n");
}

// May run in a signal handler.
void memprot_evidence_put_plainly(struct output *out, const struct memprot_record *record, bool owned) {
    static const char *const accesses[] = {"read", "write", "execution"};
    const char *file, *function;
    int32_t line;
    static const char *const findings[] = {"", "second free", "free", "overwriting"};
    put(out, "memprot: fatal ");
    put(out, record->finding ? findings[record->finding] : accesses[record->access]);
    if (record->size)
        put_member(out, " of ", record->size);
    put(out, record->size == 1 ? " byte at " : record->size ? " bytes at " : " at ");
    put_hex(out, record->address);
    if (record->block.address) {
        put_member(out,
                   record->block.is_freed ? ", of a freed block of "
                   : record->finding      ? ", of a block of "
                   : record->guard        ? ", in the guard of a block of "
                                          : ", in a block of ",
                   record->block.size);
        put(out, " bytes at ");
        put_hex(out, record->block.address);
    } else {
        if (record->key != MEMPROT_NO_KEY)
            put_member(out, ", which protection key ", (uint64_t)record->key);
        put(out, record->key != MEMPROT_NO_KEY ? " forbids"
                 : record->guard               ? ", in a guard"
                 : owned                       ? ", on memory whose protection forbids it"
                                               : "");
    }
    put_byte(out, '\n');
    for (const char *at = record->text, *end = at + record->text_length; at < end;) {
        at = next_frame(at, &line, &file, &function);
        put(out, "  File \"");
        put(out, file);
        put_member(out, "\", line ", (uint64_t)(line < 0 ? 0 : line));
        put(out, " in ");
        put(out, function);
        put_byte(out, '\n');
    }
}
