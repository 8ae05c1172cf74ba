#include "stacks.h"

#include "interpreter.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

// The innermost frames say where a block comes from; walking to the outermost one for each would cost more than the
// block.
enum { DEPTH = 16, STACKS = 1 << 16, SLOTS = STACKS * 2, CODES = 1 << 16, CHUNK = 1 << 20 };

struct frame {
    PyCodeObject *code; // never freed: see keep
    int offset;
};

struct stack {
    uint64_t hash;
    uint32_t depth;
    struct frame frames[];
};

// Written under the lock. A number is given out when its stack is complete, which then never changes: whoever has one,
// a handler too, reads without, and so does who looks for one that may be there.
static struct stack *stacks[STACKS];   // [0] stays empty
static _Atomic(uint32_t) slots[SLOTS]; // open addressing by hash
static uint32_t used = 1;
static PyCodeObject *codes[CODES]; // open addressing by address: those that stacks name
static uint32_t codes_used;
static atomic_flag lock = ATOMIC_FLAG_INIT;
static destructor free_code;

// A spin lock: threads that do not hold the interpreter take it too, for a few instructions.
static inline void acquire(void) {
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
        sched_yield();
}

static inline void release(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

// Where a code is in the table, or the free place for it. Called with the lock held.
static PyCodeObject **place_of(const PyCodeObject *code) {
    uint32_t at = (uint32_t)(((uintptr_t)code >> 4) * 0x9e3779b97f4a7c15u >> 48) % CODES;
    while (codes[at] && codes[at] != code)
        at = (at + 1) % CODES;
    return &codes[at];
}

// Were a code freed that a stack names, its address could come to mean another line. A reference to it cannot be taken
// by who does not hold the interpreter; so the code is given one when it is about to be freed.
static void keep(PyObject *code) {
    acquire();
    bool named = *place_of((PyCodeObject *)code) != NULL;
    release();
    if (named)
        Py_SET_REFCNT(code, 1);
    else
        free_code(code);
}

void memprot_stacks_init(void) {
    if (free_code)
        return; // imported again
    free_code = PyCode_Type.tp_dealloc;
    PyCode_Type.tp_dealloc = keep;
    pthread_atfork(acquire, release, release);
}

// Memory that is never given back, and comes from no allocator: those are who asks for stacks. Called with the lock
// held.
static struct stack *allocate(uint32_t depth) {
    static char *chunk;
    static size_t left;
    size_t size = sizeof(struct stack) + depth * sizeof(struct frame);
    if (left < size) {
        void *fresh = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED)
            return NULL;
        chunk = fresh;
        left = CHUNK;
    }
    left -= size;
    return (struct stack *)(chunk + left);
}

static uint32_t insert(PyThreadState *thread, uint64_t hash, uint32_t slot) {
    struct frame frames[DEPTH];
    uint32_t depth = 0;
    for (memprot_frame *frame = memprot_top_frame(thread); frame && depth < DEPTH; frame = frame->previous) {
        PyCodeObject *code = memprot_frame_code(frame);
        if (code && Py_REFCNT(code) > 0) // 3.11 frees a code with its last frame, which is still running then
            frames[depth++] = (struct frame){code, memprot_frame_offset(frame, code)};
    }
    if (depth == 0 || used == STACKS || codes_used > CODES / 2)
        return 0;
    struct stack *stack = allocate(depth);
    if (!stack)
        return 0;
    stack->hash = hash;
    stack->depth = depth;
    for (uint32_t i = 0; i < depth; i++) {
        PyCodeObject **place = place_of(frames[i].code);
        codes_used += *place == NULL;
        *place = frames[i].code;
        stack->frames[i] = frames[i];
    }
    stacks[used] = stack;
    atomic_store_explicit(&slots[slot], used, memory_order_release);
    return used++;
}

// Multilinear hashing: the terms do not wait for each other, so that the walk itself is all that takes time.
static const uint64_t multipliers[DEPTH] = {
    0xf2a74de452e6b439u, 0x6513270e269e0d37u, 0x0c5c7fd0a6a3a451u, 0xd23f0824128b2f33u,
    0x1818e811892f902bu, 0x9531985d5d9dc9f9u, 0xe8e25d940ed90475u, 0x36f675cc81e74ef5u,
    0x1600a35a099950d9u, 0x6b0d549b6f03675bu, 0x3d9c172411e20b8fu, 0x8d116ece1738f7d9u,
    0x0f21ddb66cad4a27u, 0x90c192cfd3ac94afu, 0xf28c105d1fb17c23u, 0xa170b33839263059u,
};

// Whose frames stand still meanwhile: those of a thread that is in native code, whether it holds the interpreter or
// not. While the interpreter ends, the states of threads that do not hold it are freed.
static PyThreadState *own_frames(void) {
    PyThreadState *bound = PyGILState_GetThisThreadState();
    bool lives = bound && bound->interp == PyInterpreterState_Main() && !memprot_is_ending();
    return lives ? bound : memprot_attached_thread();
}

// The number of the stack with that hash, looked for from a slot on, or 0 and the free slot for it.
static uint32_t find(uint64_t hash, uint32_t *slot) {
    uint32_t found;
    while ((found = atomic_load_explicit(&slots[*slot], memory_order_acquire)) != 0 && stacks[found]->hash != hash)
        *slot = (*slot + 1) % SLOTS;
    return found;
}

uint32_t memprot_stack_capture(void) {
    PyThreadState *thread = own_frames();
    if (!thread)
        return 0;
    uint64_t hash = 0;
    int depth = 0;
    for (memprot_frame *frame = memprot_top_frame(thread); frame && depth < DEPTH; frame = frame->previous, depth++)
        hash += (uintptr_t)memprot_frame_instruction(frame) * multipliers[depth];
    hash ^= hash >> 32;
    uint32_t slot = (uint32_t)hash % SLOTS, found = find(hash, &slot);
    if (found)
        return found;
    acquire();
    found = find(hash, &slot); // others may have been first
    if (!found)
        found = insert(thread, hash, slot);
    release();
    return found;
}

// For threads of other interpreters the stacks would have to look through lists that are changed meanwhile. Without the
// global lock a thread that waits for the stacks lets itself be stopped, which nobody expects of an allocation.
uint32_t memprot_stack_capture_anywhere(void) {
#ifdef Py_GIL_DISABLED
    return 0;
#else
    PyThreadState *bound = PyGILState_GetThisThreadState();
    bool is_known = bound && bound->interp == PyInterpreterState_Main() && !_Py_IsFinalizing();
    return is_known || (bound && bound == _PyThreadState_UncheckedGet()) ? memprot_stack_capture() : 0;
#endif
}

PyObject *memprot_stack_frames(uint32_t id) {
    const struct stack *stack = id < STACKS ? stacks[id] : NULL;
    PyObject *result = PyTuple_New(stack ? stack->depth : 0);
    if (!result || !stack)
        return result;
    for (uint32_t i = 0; i < stack->depth; i++) {
        PyCodeObject *code = stack->frames[i].code;
        PyObject *row = Py_BuildValue("(OiO)", code->co_filename, PyCode_Addr2Line(code, stack->frames[i].offset),
                                      code->co_qualname);
        if (!row) {
            Py_DECREF(result);
            return NULL;
        }
        PyTuple_SET_ITEM(result, i, row);
    }
    return result;
}

// May run in a signal handler.
PyCodeObject *memprot_stack_frame(uint32_t id, uint32_t depth, int *offset) {
    const struct stack *stack = id < STACKS ? stacks[id] : NULL;
    if (!stack || depth >= stack->depth)
        return NULL;
    *offset = stack->frames[depth].offset;
    return stack->frames[depth].code;
}
