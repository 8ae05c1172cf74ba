// Which Region an address belongs to.
#include "region.h"

#include "critical_section.h"
#include "docstrings.h"
#include "interpreter.h"

#include <pthread.h>

// Every open region, so that an address finds its owner: changed and walked under the mutex.
static Region *all;
static memprot_mutex listing;

void memprot_region_link(Region *self) {
    memprot_allow_try_reference((PyObject *)self);
    MEMPROT_LOCK(&listing);
    self->before = NULL;
    self->next = all;
    if (all)
        all->before = self;
    all = self;
    MEMPROT_UNLOCK(&listing);
}

void memprot_region_unlink(Region *self) {
    MEMPROT_LOCK(&listing);
    *(self->before ? &self->before->next : &all) = self->next;
    if (self->next)
        self->next->before = self->before;
    MEMPROT_UNLOCK(&listing);
}

// The one whose mapping, guards included, holds the address. Called with the mutex held.
static Region *find(uint64_t address) {
    Region *region = all;
    while (region && address - region->map_start >= region->map_length)
        region = region->next;
    return region;
}

// region_at(address) -> the open Region whose mapping, guards included, holds the address, or None
static PyObject *region_at(PyObject *module, PyObject *value) {
    (void)module;
    unsigned long long address = PyLong_AsUnsignedLongLong(value);
    if (address == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    MEMPROT_LOCK(&listing);
    Region *region = find(address);
    bool alive = region && memprot_try_reference((PyObject *)region);
    MEMPROT_UNLOCK(&listing);
    if (alive)
        return (PyObject *)region;
    Py_RETURN_NONE;
}

// seal_region(start, stop) -> whether that memory is a Region's: it then stays when the Region is closed
static PyObject *seal_region(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long start, stop;
    if (!PyArg_ParseTuple(args, "KK:seal_region", &start, &stop))
        return NULL;
    MEMPROT_LOCK(&listing);
    Region *region = start == stop ? NULL : find(start);
    if (region)
        region->sealed = true;
    MEMPROT_UNLOCK(&listing);
    return PyBool_FromLong(region != NULL);
}

static PyMethodDef methods[] = {
    {"region_at", region_at, METH_O, DOC_region_at},
    {"seal_region", seal_region, METH_VARARGS, DOC_seal_region},
    {NULL, NULL, 0, NULL},
};

static void after_fork_in_child(void) {
    for (Region *region = all; region; region = region->next)
        memprot_critical_section_free((PyObject *)region);
}

int memprot_add_open_regions(PyObject *module) {
    memprot_mutex_free_in_children(&listing);
    pthread_atfork(NULL, NULL, after_fork_in_child);
    return PyModule_AddFunctions(module, methods);
}
