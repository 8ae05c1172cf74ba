// Guarded blocks of Python itself: the allocators of its three domains (PEP 445) served from guard pools.
//
// Our functions take the place of Python's once, in all domains at a time, and stay: a block is freed by what it is,
// not by which domain it is given to or what is enabled then. Those from before stay with Python's own functions
// forever.
#include "critical_section.h"
#include "docstrings.h"
#include "engine.h"
#include "interpreter.h"
#include "stacks.h"

#include "guard.h"
#include "sampling.h"

#include <stdatomic.h>
#include <string.h>

struct domain {
    PyMemAllocatorDomain number;
    enum memprot_guard_owner owner;
    PyMemAllocatorEx original; // complete before Python is given ours, and then never changed
    // Read by every thread that allocates; what they say is nothing that others depend on.
    atomic_bool enabled;
    _Atomic(enum memprot_side) side;
    atomic_size_t align;
    _Atomic(uint32_t) sample;
};

static struct domain raw = {.number = PYMEM_DOMAIN_RAW, .owner = MEMPROT_GUARD_RAW};
static struct domain mem = {.number = PYMEM_DOMAIN_MEM, .owner = MEMPROT_GUARD_MEM};
static struct domain obj = {.number = PYMEM_DOMAIN_OBJ, .owner = MEMPROT_GUARD_OBJ};

// How often the calling thread has asked not to be served. Allocated with the thread, as in sampling.c.
static _Thread_local unsigned pauses __attribute__((tls_model("initial-exec")));

static void *guarded_block(struct domain *domain, size_t size, bool zeroed) {
    // Only after every thread sees all of our functions may there be blocks that Python's own could not free.
    if (!atomic_load_explicit(&domain->enabled, memory_order_acquire) || pauses)
        return NULL;
    if (!memprot_sample(atomic_load_explicit(&domain->sample, memory_order_relaxed))) {
        memprot_guard_count_sampled_out(domain->owner);
        return NULL;
    }
    return memprot_guard_allocate(&(struct memprot_guard_request){
        .size = size,
        .align = domain->align,
        .side = domain->side,
        .owner = domain->owner,
        .zeroed = zeroed,
        .origin.python = memprot_stack_capture_anywhere(),
    });
}

static void *domain_malloc(struct domain *domain, size_t size) {
    void *block = guarded_block(domain, size, false);
    return block ? block : domain->original.malloc(domain->original.ctx, size);
}

static void *domain_calloc(struct domain *domain, size_t count, size_t size) {
    size_t total;
    void *block = __builtin_mul_overflow(count, size, &total) ? NULL : guarded_block(domain, total, true);
    return block ? block : domain->original.calloc(domain->original.ctx, count, size);
}

// Where a block was freed is of interest as long as its memory is kept from others.
static struct memprot_origin freeing(const void *block) {
    bool kept = memprot_guard_quarantine() > 0 && memprot_guard_overlay_at((uintptr_t)block);
    return (struct memprot_origin){.python = kept ? memprot_stack_capture_anywhere() : 0};
}

static void domain_free(struct domain *domain, void *block) {
    struct memprot_origin here = freeing(block);
    if (memprot_guard_free(block, domain->owner, &here) != MEMPROT_GUARD_FOREIGN)
        return;
    // Where all are guarded, it is from before.
    if (block && domain->enabled && domain->sample == 1 && !pauses)
        memprot_guard_count_left_alone(domain->owner);
    domain->original.free(domain->original.ctx, block);
}

static void *domain_realloc(struct domain *domain, void *block, size_t size) {
    if (!block)
        return domain_malloc(domain, size);
    size_t old = 0;
    struct memprot_origin here = freeing(block);
    switch (memprot_guard_resize(block, domain->owner, &here, &old)) {
    case MEMPROT_GUARD_FOREIGN:
        return domain->original.realloc(domain->original.ctx, block, size);
    case MEMPROT_GUARD_LIVE:
        break;
    default:
        return NULL;
    }
    void *fresh = domain_malloc(domain, size);
    if (!fresh)
        return NULL; // the old block stays valid, as realloc(3) says
    memcpy(fresh, block, old < size ? old : size);
    domain_free(domain, block);
    return fresh;
}

// The context that Python hands over is ignored, so that ours may carry the original's: while Python copies the
// structure field by field, a thread without the interpreter meets any mix of both, and each mix works.
#define FUNCTIONS(domain)                                                                                              \
    static void *domain##_malloc(void *context, size_t size) {                                                         \
        (void)context;                                                                                                 \
        return domain_malloc(&domain, size);                                                                           \
    }                                                                                                                  \
    static void *domain##_calloc(void *context, size_t count, size_t size) {                                           \
        (void)context;                                                                                                 \
        return domain_calloc(&domain, count, size);                                                                    \
    }                                                                                                                  \
    static void *domain##_realloc(void *context, void *block, size_t size) {                                           \
        (void)context;                                                                                                 \
        return domain_realloc(&domain, block, size);                                                                   \
    }                                                                                                                  \
    static void domain##_free(void *context, void *block) {                                                            \
        (void)context;                                                                                                 \
        domain_free(&domain, block);                                                                                   \
    }                                                                                                                  \
    static void take_##domain(void) {                                                                                  \
        PyMem_GetAllocator(domain.number, &domain.original);                                                           \
        PyMemAllocatorEx ours = {domain.original.ctx, domain##_malloc, domain##_calloc, domain##_realloc,              \
                                 domain##_free};                                                                       \
        PyMem_SetAllocator(domain.number, &ours);                                                                      \
    }

FUNCTIONS(raw)
#ifndef Py_GIL_DISABLED
FUNCTIONS(mem)
FUNCTIONS(obj)
#endif

static int take_all(void) {
    static bool taken;
    if (taken)
        return 0;
    if (memprot_engine_acquire() < 0)
        return -1;
    take_raw();
#ifndef Py_GIL_DISABLED
    take_mem();
    take_obj();
#endif
    taken = true;
    return 0;
}

static struct domain *domain_of(int owner) {
    struct domain *const domains[] = {&raw, &mem, &obj};
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
        if ((int)domains[i]->owner == owner)
            return domains[i];
    }
    return (struct domain *)PyErr_Format(PyExc_ValueError, "%d is none of Python's allocators", owner);
}

static PyObject *allocator_enable_inside(PyObject *args) {
    int owner, side;
    Py_ssize_t align;
    unsigned sample;
    if (!PyArg_ParseTuple(args, "iinI:allocator_enable", &owner, &side, &align, &sample))
        return NULL;
    struct domain *domain = domain_of(owner);
    if (!domain)
        return NULL;
#ifdef Py_GIL_DISABLED
    if (domain != &raw)
        return PyErr_Format(PyExc_RuntimeError,
                            "a Python without the global interpreter lock finds its objects through its own "
                            "allocator, so that only its raw memory can be guarded; guard \"raw\", or use a Python "
                            "with the lock");
#endif
    if (take_all() < 0)
        return NULL;
    domain->align = (size_t)align;
    domain->side = (enum memprot_side)side;
    domain->sample = sample;
    atomic_store_explicit(&domain->enabled, true, memory_order_release);
    Py_RETURN_NONE;
}

static MEMPROT_CRITICAL(PyObject *, allocator_enable, (PyObject * module, PyObject *args), module, args)

    static PyObject *allocator_disable(PyObject *module, PyObject *owner) {
    (void)module;
    int number = (int)PyLong_AsLong(owner);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    struct domain *domain = domain_of(number);
    if (!domain)
        return NULL;
    atomic_store(&domain->enabled, false);
    Py_RETURN_NONE;
}

static PyObject *allocators_pause(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    pauses++;
    Py_RETURN_NONE;
}

static PyObject *allocators_resume(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    pauses -= pauses > 0;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"allocator_enable", allocator_enable, METH_VARARGS, DOC_allocator_enable},
    {"allocator_disable", allocator_disable, METH_O, DOC_allocator_disable},
    {"allocators_pause", allocators_pause, METH_NOARGS, DOC_allocators_pause},
    {"allocators_resume", allocators_resume, METH_NOARGS, DOC_allocators_resume},
    {NULL, NULL, 0, NULL},
};

int memprot_add_python_allocators(PyObject *module) { return PyModule_AddFunctions(module, methods); }
