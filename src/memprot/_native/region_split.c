// One Region becomes two: nothing is moved, and at every moment somebody answers for each page.
#include "region.h"

#include "critical_section.h"

#include "engine.h"

#include "page.h"
#include "ranges.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// An overlay for some of the pages of another, published beside it.
static struct memprot_overlay *answer_for_part(const struct memprot_overlay *whole, size_t first, size_t count) {
    size_t size = memprot_page_size();
    uintptr_t start = whole->start + first * size;
    struct memprot_overlay *part = calloc(1, sizeof *part);
    if (!part)
        return NULL;
    if (memprot_overlay_init(part, start, count, whole->backing, MEMPROT_PAGE_REAL, 0) == 0) {
        memcpy(part->prot, whole->prot + first, count);
        atomic_store(&part->policy, atomic_load(&whole->policy));
        part->offset = whole->offset + (off_t)(first * size);
        if (whole->fd < 0 || (part->fd = fcntl(whole->fd, F_DUPFD_CLOEXEC, 3)) >= 0) {
            if (memprot_ranges_add(start, start + count * size, part) == 0)
                return part;
        }
    }
    int error = errno;
    memprot_region_forget(part);
    free(part);
    errno = error;
    return NULL;
}

static int split(Region *self, size_t first, Region *rest) {
    size_t size = memprot_page_size(), length = first * size;
    struct memprot_overlay *whole = self->overlay;
    struct memprot_overlay *low = answer_for_part(whole, 0, first);
    struct memprot_overlay *high = low ? answer_for_part(whole, first, whole->pages - first) : NULL;
    if (!high) {
        int error = errno;
        if (low)
            memprot_region_forget(low);
        free(low);
        errno = error;
        return -1;
    }
    memprot_region_forget(whole);
    free(whole);
    self->overlay = low;
    rest->overlay = high;
    rest->shared = self->shared;
    rest->stack = self->stack;
    rest->address = rest->map_start = rest->data_start = self->data_start + length;
    rest->map_length = rest->data_length = self->data_length - length;
    rest->size = self->size - length;
    self->map_length = self->data_length = self->size = length;
    return 0;
}

static PyObject *memprot_region_split_inside(Region *self, PyObject *args) {
    Py_ssize_t first;
    Region *rest;
    if (memprot_region_check_open(self) < 0 || !PyArg_ParseTuple(args, "nO!:_split", &first, Py_TYPE(self), &rest))
        return NULL;
    if (rest->map_start || self->guarded || self->sealed || first <= 0 || (size_t)first >= self->overlay->pages)
        return PyErr_Format(PyExc_ValueError, "a Region that is guarded or sealed cannot be split");
    if (self->exports > 0)
        return PyErr_Format(PyExc_BufferError,
                            "cannot split the Region: %zd buffers of it are still in use; release them first",
                            self->exports);
    if (memprot_engine_acquire() < 0)
        return NULL;
    if (split(self, (size_t)first, rest) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        memprot_engine_release();
        return NULL;
    }
    memprot_region_link(rest);
    Py_RETURN_NONE;
}

MEMPROT_CRITICAL(PyObject *, memprot_region_split, (Region * self, PyObject *args), self, self, args)
