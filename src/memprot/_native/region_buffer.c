// A Region as a buffer for others, who keep its memory mapped for as long as they hold it.
#include "region.h"

#include "critical_section.h"

#include <sys/mman.h>

static int memprot_region_get_buffer_inside(Region *self, Py_buffer *view, int flags) {
    if (memprot_region_check_open(self) < 0)
        return -1;
    bool readonly = false;
    for (size_t page = 0; page < self->overlay->pages; page++)
        readonly |= !(self->overlay->prot[page] & PROT_WRITE);
    if (readonly && (flags & PyBUF_WRITABLE)) {
        PyErr_SetString(PyExc_BufferError, "the Region is not writable now; protect it with \"rw-\" first");
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, (void *)self->address, (Py_ssize_t)self->size, readonly, flags) < 0)
        return -1;
    self->exports++;
    return 0;
}

MEMPROT_CRITICAL(int, memprot_region_get_buffer, (Region * self, Py_buffer *view, int flags), self, self, view, flags)

void memprot_region_release_buffer(Region *self, Py_buffer *view) {
    (void)view;
    Py_BEGIN_CRITICAL_SECTION(self);
    self->exports--;
    Py_END_CRITICAL_SECTION();
}
