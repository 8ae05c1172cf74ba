#include "suppression.h"

#include "symbols.h"

#include <signal.h>
#include <string.h>

static _Atomic(struct memprot_suppressions *) current;

void memprot_suppressions_set(struct memprot_suppressions *suppressions) {
    // The C library's copying functions have their names only when they have been looked up once outside of a handler.
    struct memprot_symbol symbol;
    if (suppressions->count > 0)
        (void)memprot_symbol_find((uintptr_t)&memmove, &symbol);
    atomic_store(&current, suppressions);
}

// May run in a signal handler.
bool memprot_suppressions_are_any(void) {
    const struct memprot_suppressions *suppressions = atomic_load(&current);
    return suppressions && suppressions->count > 0;
}

// Behind one character of UTF-8, or behind a byte that is none. May run in a signal handler.
static const char *behind_character(const char *text) {
    for (text++; ((unsigned char)*text & 0xc0) == 0x80; text++)
        continue;
    return text;
}

// May run in a signal handler.
bool memprot_pattern_matches(const char *pattern, const char *text) {
    const char *after_star = NULL, *retry = NULL;
    while (*text) {
        if (*pattern == '*') {
            after_star = ++pattern;
            retry = text;
        } else if (*pattern == '?') {
            pattern++;
            text = behind_character(text);
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (after_star) {
            pattern = after_star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

// May run in a signal handler.
static const char *last_part(const char *path) {
    const char *last = path;
    for (const char *at = path; *at; at++) {
        if (*at == '/')
            last = at + 1;
    }
    return last;
}

// May run in a signal handler.
static bool path_matches(const char *pattern, const char *path) {
    return memprot_pattern_matches(pattern, strchr(pattern, '/') ? path : last_part(path));
}

enum { FRAMES = 128 };

struct frame {
    const char *library, *function, *file; // NULL: it has none, or none is known
};

// What is asked for is looked up: few faults get beyond the first frame of a suppression.
struct stack {
    const struct memprot_record *record;
    uint32_t native, count;
    bool looked_up[MEMPROT_RECORD_PCS];
    struct frame frames[FRAMES];
};

// May run in a signal handler.
static void read_stack(const struct memprot_record *record, struct stack *ret) {
    ret->record = record;
    ret->native = ret->count = record->pcs;
    memset(ret->looked_up, 0, sizeof ret->looked_up);
    memset(ret->frames, 0, record->pcs * sizeof *ret->frames);
    const char *at = record->text, *end = record->text + record->text_length;
    while (record->interpreted && at < end && ret->count < FRAMES) {
        const char *file = at + sizeof(int32_t), *function = file + strlen(file) + 1;
        ret->frames[ret->count++] = (struct frame){.function = function, .file = file};
        at = function + strlen(function) + 1;
    }
}

// May run in a signal handler.
static const struct frame *frame_at(struct stack *stack, uint32_t at) {
    struct frame *frame = &stack->frames[at];
    if (at < stack->native && !stack->looked_up[at]) {
        struct memprot_symbol symbol;
        stack->looked_up[at] = true;
        // A return address lies behind its call, which may be the last instruction of its function.
        if (memprot_symbol_find_in_handler(stack->record->pc[at] - (at > 0), &symbol))
            *frame = (struct frame){.library = symbol.library, .function = symbol.function};
    }
    return frame;
}

// May run in a signal handler.
static bool frame_matches(const struct memprot_suppression_frame *wanted, const struct frame *frame) {
    if (wanted->file && !(frame->file && path_matches(wanted->file, frame->file)))
        return false;
    if (wanted->library && !(frame->library && path_matches(wanted->library, frame->library)))
        return false;
    return !wanted->function || (frame->function && memprot_pattern_matches(wanted->function, frame->function));
}

// May run in a signal handler.
static bool stack_matches(const struct memprot_suppression *suppression, struct stack *stack) {
    size_t wanted = 0, after_any = SIZE_MAX;
    uint32_t at = 0, retry = 0;
    while (wanted < suppression->count) {
        const struct memprot_suppression_frame *pattern = &suppression->frames[wanted];
        if (pattern->any_number) {
            after_any = ++wanted;
            retry = at;
        } else if (at < stack->count && frame_matches(pattern, frame_at(stack, at))) {
            wanted++;
            at++;
        } else if (after_any != SIZE_MAX && retry < stack->count) {
            wanted = after_any;
            at = ++retry;
        } else {
            return false;
        }
    }
    return true;
}

// May run in a signal handler.
static uint32_t kinds_of(const struct memprot_record *record) {
    if (record->signal == SIGBUS)
        return MEMPROT_KIND_BUS;
    if (record->finding == MEMPROT_FOUND_DOUBLE_FREE)
        return MEMPROT_KIND_DOUBLE_FREE;
    if (record->finding == MEMPROT_FOUND_WILD_FREE)
        return MEMPROT_KIND_WILD_FREE;
    if (record->finding == MEMPROT_FOUND_SLACK)
        return MEMPROT_KIND_SLACK;
    if (record->guard && record->block.address && record->block.is_freed)
        return MEMPROT_KIND_USE_AFTER_FREE;
    if (record->guard && record->block.address)
        return record->address >= record->block.address + record->block.size ? MEMPROT_KIND_OVERFLOW
                                                                             : MEMPROT_KIND_UNDERFLOW;
    if (record->guard) // of a region with guards, perhaps: which side it is nobody knows here
        return MEMPROT_KIND_OVERFLOW | MEMPROT_KIND_UNDERFLOW | MEMPROT_KIND_UNMAPPED;
    return record->key != MEMPROT_NO_KEY ? MEMPROT_KIND_KEY : MEMPROT_KIND_PROTECTION;
}

// May run in a signal handler.
struct memprot_suppression *memprot_suppression_of(const struct memprot_record *record) {
    if (!memprot_suppressions_are_any())
        return NULL;
    struct memprot_suppressions *suppressions = atomic_load(&current);
    struct stack stack;
    read_stack(record, &stack);
    uint32_t kinds = kinds_of(record);
    for (size_t i = 0; i < suppressions->count; i++) {
        struct memprot_suppression *one = &suppressions->of[i];
        if ((one->kinds & kinds) && (one->accesses & 1u << record->access) && stack_matches(one, &stack))
            return one;
    }
    return NULL;
}
