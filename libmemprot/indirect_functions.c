#include "indirect_functions.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

struct implementation {
    uintptr_t start;
    const struct memprot_elf_function *function;
};

// What the indirect functions of one loaded object resolve to.
struct resolved_object {
    const struct memprot_elf *elf;
    uintptr_t bias;
    struct resolved_object *next;
    size_t count;
    struct implementation implementations[];
};

// Only ever grows at its head, so that readers need no lock and a fork leaves none behind.
static _Atomic(struct resolved_object *) objects;

// Of several names for one implementation: memmove, which promises the most; then the public one, the strong one, the
// shortest, the first of the alphabet. May run in a signal handler.
static bool names_better(const struct memprot_elf_function *a, const struct memprot_elf_function *b) {
    bool a_moves = strcmp(a->name, "memmove") == 0, b_moves = strcmp(b->name, "memmove") == 0;
    if (a_moves != b_moves)
        return a_moves;
    if ((a->name[0] == '_') != (b->name[0] == '_'))
        return b->name[0] == '_';
    if (a->rank != b->rank)
        return a->rank > b->rank;
    size_t a_length = strlen(a->name), b_length = strlen(b->name);
    return a_length != b_length ? a_length < b_length : strcmp(a->name, b->name) < 0;
}

static struct resolved_object *resolve(const struct memprot_elf *elf, uintptr_t bias) {
    size_t count = 0;
    for (size_t i = 0; i < elf->function_count; i++)
        count += elf->functions[i].indirect;
    struct resolved_object *object = malloc(sizeof *object + count * sizeof *object->implementations);
    if (!object)
        return NULL;
    *object = (struct resolved_object){.elf = elf, .bias = bias};
    void *handle = count ? dlopen(elf->path, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    for (size_t i = 0; handle && i < elf->function_count; i++) {
        void *start = elf->functions[i].indirect ? dlsym(handle, elf->functions[i].name) : NULL;
        if (start)
            object->implementations[object->count++] = (struct implementation){(uintptr_t)start, &elf->functions[i]};
    }
    if (handle)
        dlclose(handle);
    return object;
}

// NULL where nobody has asked about it. May run in a signal handler.
static const struct resolved_object *known(const struct memprot_elf *elf, uintptr_t bias) {
    for (struct resolved_object *object = atomic_load(&objects); object; object = object->next) {
        if (object->elf == elf && object->bias == bias)
            return object;
    }
    return NULL;
}

static const struct resolved_object *resolved(const struct memprot_elf *elf, uintptr_t bias) {
    const struct resolved_object *before = known(elf, bias);
    struct resolved_object *object = before ? NULL : resolve(elf, bias);
    if (!object)
        return before;
    // Two threads may resolve one object at once; the list then has it twice, which is harmless.
    object->next = atomic_load(&objects);
    while (!atomic_compare_exchange_weak(&objects, &object->next, object))
        continue;
    return object;
}

// May run in a signal handler.
static uintptr_t start_of(uintptr_t pc) {
    return (uintptr_t)_Unwind_FindEnclosingFunction((void *)(pc + 1)); // it looks for the byte before
}

// The best of those that start there. May run in a signal handler.
static bool find_in(const struct resolved_object *object, uintptr_t start, struct memprot_indirect_function *ret) {
    const struct memprot_elf_function *best = NULL;
    for (size_t i = 0; object && i < object->count; i++) {
        const struct implementation *candidate = &object->implementations[i];
        if (candidate->start == start && (!best || names_better(candidate->function, best)))
            best = candidate->function;
    }
    if (!best)
        return false;
    *ret = (struct memprot_indirect_function){best->name, start};
    return true;
}

bool memprot_indirect_function_find(const struct memprot_elf *elf, uintptr_t bias, uintptr_t pc,
                                    struct memprot_indirect_function *ret) {
    uintptr_t start = start_of(pc);
    return start != 0 && find_in(resolved(elf, bias), start, ret);
}

// May run in a signal handler.
bool memprot_indirect_function_find_known(const struct memprot_elf *elf, uintptr_t bias, uintptr_t pc,
                                          struct memprot_indirect_function *ret) {
    uintptr_t start = start_of(pc);
    return start != 0 && find_in(known(elf, bias), start, ret);
}
