// The native half of the Region type.
#pragma once

#include "binding.h"

#include "overlay.h"

#include <stdbool.h>

// Its fields are touched in its own critical section; `next`, `before` and `sealed` under the mutex of the list.
typedef struct Region {
    PyObject_HEAD uintptr_t address; // of byte 0; with guards not always the start of a page
    size_t size;
    uintptr_t map_start; // the whole mapping, guards included; 0 when closed
    size_t map_length;
    uintptr_t data_start; // the pages that hold the bytes
    size_t data_length;
    struct memprot_overlay *overlay; // of its own, so that a part can take another's place
    struct memprot_overlay guards;
    bool shared, guarded, sealed;
    uint32_t stack;
    Py_ssize_t exports; // buffers handed out and copies under way: the memory must stay
    struct Region *next, *before;
    PyObject *weak_references;
} Region;

/// @return 0, or -1 with ValueError set when the region is closed.
int memprot_region_check_open(Region *self);

/// Adds it to those that an address is looked up in, and takes it out (open_regions.c).
void memprot_region_link(Region *self);
void memprot_region_unlink(Region *self);

/// Withdraws an overlay, closes its pages and descriptor, and releases what it holds; nothing when it was never made.
void memprot_region_forget(struct memprot_overlay *overlay);

/// Splits off a Region (region_split.c).
PyObject *memprot_region_split(Region *self, PyObject *args);

// The slots and methods that touch the bytes (region_access.c).
Py_ssize_t memprot_region_length(Region *self);
PyObject *memprot_region_subscript(Region *self, PyObject *key);
int memprot_region_store(Region *self, PyObject *key, PyObject *value);
PyObject *memprot_region_read(Region *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords);
PyObject *memprot_region_write(Region *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

// The buffer protocol (region_buffer.c).
int memprot_region_get_buffer(Region *self, Py_buffer *view, int flags);
void memprot_region_release_buffer(Region *self, Py_buffer *view);
