// Guarded arrays: NumPy's data allocator (NEP 49) served from guard pools.
//
// NumPy's default handler lives in a capsule that every array holds. Ours takes the capsule's place from
// inside, because a handler that is merely set belongs to one context, and threads start with another. Each
// block is freed by what it is, not by which handler is current: an array from before stays with NumPy's own
// functions, forever.
#include "critical_section.h"
#include "docstrings.h"
#include "engine.h"
#include "stacks.h"

#include "guard.h"
#include "sampling.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

// NumPy's C API, as far as it is used here; numpy/_core/include/numpy/ndarraytypes.h fixes these layouts.
struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *block, size_t size);
    void (*free)(void *context, void *block, size_t size);
};

struct handler {
    char name[127];
    uint8_t version;
    struct allocator allocator;
};

enum { DEFAULT_HANDLER = 306 }; // the index of PyDataMem_DefaultHandler in the table of NumPy's C API

// Complete before NumPy is given them, and then never changed.
static struct allocator original;
static struct handler guarded;
// Read by every thread that allocates; what they say is nothing that others depend on.
static atomic_bool enabled;
static _Atomic(enum memprot_side) side;
static atomic_size_t align = 1;
static _Atomic(uint32_t) sample = 1;

static void *allocate(size_t size, bool zeroed) {
    if (!atomic_load_explicit(&enabled, memory_order_relaxed))
        return NULL;
    if (!memprot_sample(atomic_load_explicit(&sample, memory_order_relaxed))) {
        memprot_guard_count_sampled_out(MEMPROT_GUARD_NUMPY);
        return NULL;
    }
    return memprot_guard_allocate(&(struct memprot_guard_request){
        .size = size,
        .align = align,
        .side = side,
        .owner = MEMPROT_GUARD_NUMPY,
        .zeroed = zeroed,
        .origin.python = memprot_stack_capture(),
    });
}

static void *guarded_malloc(void *context, size_t size) {
    void *block = allocate(size, false);
    return block ? block : original.malloc(context, size);
}

static void *guarded_calloc(void *context, size_t count, size_t size) {
    size_t total;
    void *block = __builtin_mul_overflow(count, size, &total) ? NULL : allocate(total, true);
    return block ? block : original.calloc(context, count, size);
}

// Where a block was freed is of interest as long as its memory is kept from others.
static struct memprot_origin freeing(void) {
    return (struct memprot_origin){.python = memprot_guard_quarantine() > 0 ? memprot_stack_capture() : 0};
}

static void guarded_free(void *context, void *block, size_t size) {
    struct memprot_origin here = freeing();
    if (memprot_guard_free(block, MEMPROT_GUARD_NUMPY, &here) != MEMPROT_GUARD_FOREIGN)
        return;
    if (block)
        memprot_guard_count_left_alone(MEMPROT_GUARD_NUMPY);
    original.free(context, block, size);
}

static void *guarded_realloc(void *context, void *block, size_t size) {
    if (!block)
        return guarded_malloc(context, size);
    size_t old = 0;
    struct memprot_origin here = freeing();
    switch (memprot_guard_resize(block, MEMPROT_GUARD_NUMPY, &here, &old)) {
    case MEMPROT_GUARD_FOREIGN:
        return original.realloc(context, block, size);
    case MEMPROT_GUARD_LIVE:
        break;
    default:
        return NULL;
    }
    void *fresh = guarded_malloc(context, size);
    if (!fresh)
        return NULL; // the old block stays valid, as realloc(3) says
    memcpy(fresh, block, old < size ? old : size);
    guarded_free(context, block, old);
    return fresh;
}

static PyObject *default_handler(PyObject *umath) {
    PyObject *api = PyObject_GetAttrString(umath, "_ARRAY_API");
    void **table = api ? PyCapsule_GetPointer(api, NULL) : NULL;
    Py_XDECREF(api);
    if (!table)
        return NULL;
    PyObject *capsule = *(PyObject **)table[DEFAULT_HANDLER];
    if (!capsule || !PyCapsule_IsValid(capsule, "mem_handler"))
        return PyErr_Format(PyExc_RuntimeError,
                            "this NumPy has no default data handler to guard (NumPy 1.22 brought it)");
    return capsule;
}

static PyObject *numpy_enable_inside(PyObject *args) {
    PyObject *umath;
    int where;
    Py_ssize_t alignment;
    unsigned every;
    if (!PyArg_ParseTuple(args, "OinI:numpy_enable", &umath, &where, &alignment, &every))
        return NULL;
    if (!guarded.version) {
        PyObject *capsule = default_handler(umath);
        if (!capsule || memprot_engine_acquire() < 0)
            return NULL;
        struct handler *plain = PyCapsule_GetPointer(capsule, "mem_handler");
        original = plain->allocator;
        guarded = *plain;
        guarded.allocator =
            (struct allocator){original.context, guarded_malloc, guarded_calloc, guarded_realloc, guarded_free};
        if (PyCapsule_SetPointer(capsule, &guarded) < 0)
            return NULL;
    }
    align = (size_t)alignment;
    side = (enum memprot_side)where;
    sample = every;
    atomic_store(&enabled, true);
    Py_RETURN_NONE;
}

static MEMPROT_CRITICAL(PyObject *, numpy_enable, (PyObject * module, PyObject *args), module, args)

    static PyObject *numpy_disable(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    atomic_store(&enabled, false);
    Py_RETURN_NONE;
}

static PyObject *stack_frames(PyObject *module, PyObject *stack) {
    (void)module;
    unsigned long id = PyLong_AsUnsignedLong(stack);
    return id == (unsigned long)-1 && PyErr_Occurred() ? NULL : memprot_stack_frames((uint32_t)id);
}

static PyMethodDef methods[] = {
    {"numpy_enable", numpy_enable, METH_VARARGS, DOC_numpy_enable},
    {"numpy_disable", numpy_disable, METH_NOARGS, DOC_numpy_disable},
    {"stack_frames", stack_frames, METH_O, DOC_stack_frames},
    {NULL, NULL, 0, NULL},
};

int memprot_add_numpy(PyObject *module) {
    memprot_stacks_init();
    return PyModule_AddFunctions(module, methods);
}
