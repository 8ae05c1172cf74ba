// The Region type's native half: a mapping with an overlay, and accessors that cannot kill the process.
#include "docstrings.h"
#include "engine.h"
#include "stacks.h"

#include "access.h"
#include "calls.h"
#include "page.h"
#include "ranges.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum side { NO_GUARDS, GUARD_RIGHT, GUARD_LEFT };
enum { GUARD_LENGTH = 64 << 10, LONG_COPY = 1 << 20 };

typedef struct Region {
    PyObject_HEAD uintptr_t address; // of byte 0; with guards not always the start of a page
    size_t size;
    uintptr_t map_start; // the whole mapping, guards included; 0 when closed
    size_t map_length;
    uintptr_t data_start; // the pages that hold the bytes
    size_t data_length;
    struct memprot_overlay overlay, guards;
    bool shared, guarded;
    uint32_t stack;
    Py_ssize_t exports; // buffers handed out and copies under way: the memory must stay
    struct Region *next, *before;
    PyObject *weak_references;
} Region;

// Every open region, so that an address finds its owner. Changed and walked with the interpreter held.
static Region *all;
static PyObject *fault_factory;

static void link_region(Region *self) {
    self->before = NULL;
    self->next = all;
    if (all)
        all->before = self;
    all = self;
}

static void unlink_region(Region *self) {
    *(self->before ? &self->before->next : &all) = self->next;
    if (self->next)
        self->next->before = self->before;
}

// ---- mapping and unmapping

static int open_memory_file(const char *name, size_t length) {
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) // a filter may refuse the call: an unlinked file in the shared-memory file system is the same
                // thing
        fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, (off_t)length) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    return fd;
}

static int map_pages(Region *self, int prot, int fd, off_t offset) {
    int flags = (self->shared ? MAP_SHARED : MAP_PRIVATE) | (fd < 0 ? MAP_ANONYMOUS : 0);
    size_t margin = self->guarded ? GUARD_LENGTH : 0;
    self->map_length = self->data_length + 2 * margin;
    char *start =
        mmap(NULL, self->map_length, self->guarded ? PROT_READ | PROT_WRITE : prot, flags, fd, offset);
    if (start == MAP_FAILED)
        return -1;
    self->map_start = (uintptr_t)start;
    self->data_start = self->map_start + margin;
    if (!self->guarded)
        return 0;
    memprot_overlay_guards_by_madvise();
    if (memprot_overlay_install_guard(self->map_start, margin) < 0 ||
        memprot_overlay_install_guard(self->data_start + self->data_length, margin) < 0)
        return -1;
    return memprot_mprotect(self->data_start, self->data_length, (unsigned long)prot);
}

static int answer_for_pages(Region *self, int prot, int fd, off_t offset) {
    size_t page = memprot_page_size();
    enum memprot_backing backing = self->shared ? MEMPROT_BACKING_SHARED : MEMPROT_BACKING_PRIVATE;
    if (memprot_overlay_init(&self->overlay, self->data_start, self->data_length / page, backing,
                             MEMPROT_PAGE_REAL, (uint8_t)prot) < 0)
        return -1;
    self->overlay.offset = offset;
    if (self->shared && (self->overlay.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        return -1;
    if (memprot_ranges_add(self->data_start, self->data_start + self->data_length, &self->overlay) < 0)
        return -1;
    if (!self->guarded)
        return 0;
    if (memprot_overlay_init(&self->guards, self->map_start, self->map_length / page, MEMPROT_BACKING_GUARD,
                             MEMPROT_PAGE_REAL, PROT_NONE) < 0)
        return -1;
    uintptr_t data_stop = self->data_start + self->data_length;
    for (size_t i = GUARD_LENGTH / page; i < GUARD_LENGTH / page + self->data_length / page; i++)
        atomic_store(&self->guards.state[i], MEMPROT_PAGE_FOREIGN);
    if (memprot_ranges_add(self->map_start, self->data_start, &self->guards) < 0)
        return -1;
    return memprot_ranges_add(data_stop, self->map_start + self->map_length, &self->guards);
}

// Gives back whatever there is; safe on a region that was only half made.
static int release(Region *self) {
    struct memprot_overlay *overlays[] = {&self->overlay, &self->guards};
    int failed = 0;
    for (size_t i = 0; i < 2; i++) {
        if (!overlays[i]->prot)
            continue;
        memprot_ranges_remove(overlays[i]);
        memprot_record_close_pages(overlays[i], 0, overlays[i]->pages);
        if (overlays[i]->fd >= 0)
            close(overlays[i]->fd);
        memprot_overlay_deinit(overlays[i]);
    }
    if (self->map_start) {
        failed = munmap((void *)self->map_start, self->map_length);
        self->map_start = 0;
    }
    return failed;
}

static int map_region(Region *self, int prot, const char *name, bool huge, enum side side, int fd,
                      off_t offset) {
    int file = fd;
    self->guarded = side != NO_GUARDS;
    self->data_length = memprot_page_ceil(self->size);
    if (self->shared && fd < 0 && (file = open_memory_file(name ? name : "memprot", self->data_length)) < 0)
        return -1;
    int failed = map_pages(self, prot, file, offset);
    if (!failed)
        failed = answer_for_pages(self, prot, file, offset);
    if (failed) {
        int error = errno;
        release(self);
        errno = error;
    } else {
        self->address = self->data_start + (side == GUARD_RIGHT ? self->data_length - self->size : 0);
        // Names and huge pages are wishes: kernels without them map the memory all the same.
        if (name && fd < 0 && !self->shared)
            (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, self->map_start, self->map_length, name);
        if (huge)
            (void)madvise((void *)self->data_start, self->data_length, MADV_HUGEPAGE);
    }
    if (file >= 0 && file != fd)
        close(file);
    return failed;
}

// ---- construction and closing

static int region_init(Region *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"size", "prot", "shared", "name", "huge", "side", "fd", "offset", NULL};
    Py_ssize_t size;
    int prot, shared, huge, side, fd;
    const char *name;
    long long offset;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "nipzpiiL", names, &size, &prot, &shared, &name, &huge,
                                     &side, &fd, &offset))
        return -1;
    if (self->map_start) {
        PyErr_SetString(PyExc_ValueError, "this Region is mapped already; make another one");
        return -1;
    }
    if (memprot_engine_acquire() < 0)
        return -1;
    self->size = (size_t)size;
    self->shared = shared;
    if (map_region(self, prot, name, huge, (enum side)side, fd, (off_t)offset) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        memprot_engine_release();
        return -1;
    }
    self->stack = memprot_stack_capture();
    link_region(self);
    return 0;
}

static int check_open(Region *self) {
    if (self->map_start)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the Region is closed");
    return -1;
}

static PyObject *region_close(Region *self, PyObject *unused) {
    (void)unused;
    if (!self->map_start)
        Py_RETURN_NONE;
    if (self->exports > 0) {
        PyErr_Format(PyExc_BufferError,
                     "cannot close the Region: %zd buffers of it are still in use; release them first",
                     self->exports);
        return NULL;
    }
    unlink_region(self);
    int failed = release(self);
    memprot_engine_release();
    return failed ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

static void region_dealloc(Region *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (PyType_IS_GC(type))
        PyObject_GC_UnTrack(self);
    if (self->weak_references)
        PyObject_ClearWeakRefs((PyObject *)self);
    if (self->map_start) {
        unlink_region(self);
        if (release(self) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        memprot_engine_release();
    }
    type->tp_free(self);
    Py_DECREF(type);
}

// ---- access

static void raise_fault(Region *self, uintptr_t address, enum memprot_access access) {
    struct memprot_access_failure *failure = memprot_access_last_failure();
    PyObject *error = PyObject_CallFunction(fault_factory, "OKii", self, (unsigned long long)address,
                                            (int)access, failure->signal);
    if (!error)
        return;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

// Copies between the region and other memory, which may itself be protected: the fault's address tells whose
// it was.
static int copy(Region *self, void *to, const void *from, size_t length) {
    size_t left;
    self->exports++;
    if (length >= LONG_COPY) {
        Py_BEGIN_ALLOW_THREADS;
        left = memprot_access_copy(to, from, length);
        Py_END_ALLOW_THREADS;
    } else {
        left = memprot_access_copy(to, from, length);
    }
    self->exports--;
    if (left == 0)
        return 0;
    uintptr_t address = memprot_access_last_failure()->address;
    uintptr_t stop = (uintptr_t)to + length;
    bool writing = address >= (uintptr_t)to && address < stop;
    raise_fault(self, address, writing ? MEMPROT_WRITE : MEMPROT_READ);
    return -1;
}

static Py_ssize_t region_length(Region *self) {
    return (Py_ssize_t)self->size;
}

static PyObject *read_bytes(Region *self, size_t start, size_t length) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (bytes && copy(self, PyBytes_AS_STRING(bytes), (void *)(self->address + start), length) < 0)
        Py_CLEAR(bytes);
    return bytes;
}

static int index_of(Region *self, PyObject *key, size_t *ret) {
    Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred())
        return -1;
    if (index < 0)
        index += (Py_ssize_t)self->size;
    if (index < 0 || (size_t)index >= self->size) {
        PyErr_Format(PyExc_IndexError, "index %R is outside the Region's %zu bytes", key, self->size);
        return -1;
    }
    *ret = (size_t)index;
    return 0;
}

static PyObject *region_subscript(Region *self, PyObject *key) {
    if (check_open(self) < 0)
        return NULL;
    if (PyIndex_Check(key)) {
        size_t index;
        if (index_of(self, key, &index) < 0)
            return NULL;
        int byte = memprot_access_load(self->address + index);
        if (byte >= 0)
            return PyLong_FromLong(byte);
        raise_fault(self, self->address + index, MEMPROT_READ);
        return NULL;
    }
    Py_ssize_t start, stop, step;
    if (!PySlice_Check(key))
        return PyErr_Format(PyExc_TypeError, "a Region's indices are int or slice, not %.100s",
                            Py_TYPE(key)->tp_name);
    if (PySlice_Unpack(key, &start, &stop, &step) < 0)
        return NULL;
    Py_ssize_t length = PySlice_AdjustIndices((Py_ssize_t)self->size, &start, &stop, step);
    if (step == 1)
        return read_bytes(self, (size_t)start, (size_t)length);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, length);
    for (Py_ssize_t i = 0; bytes && i < length; i++) {
        int byte = memprot_access_load(self->address + (size_t)(start + i * step));
        if (byte < 0) {
            raise_fault(self, self->address + (size_t)(start + i * step), MEMPROT_READ);
            Py_CLEAR(bytes);
        } else {
            PyBytes_AS_STRING(bytes)[i] = (char)byte;
        }
    }
    return bytes;
}

static int store_byte(Region *self, size_t index, unsigned char byte) {
    if (memprot_access_store(self->address + index, byte) == 0)
        return 0;
    raise_fault(self, self->address + index, MEMPROT_WRITE);
    return -1;
}

static int store_slice(Region *self, PyObject *key, PyObject *value) {
    Py_ssize_t start, stop, step;
    Py_buffer from;
    if (PySlice_Unpack(key, &start, &stop, &step) < 0)
        return -1;
    Py_ssize_t length = PySlice_AdjustIndices((Py_ssize_t)self->size, &start, &stop, step);
    if (PyObject_GetBuffer(value, &from, PyBUF_SIMPLE) < 0)
        return -1;
    int result = 0;
    if (from.len != length) {
        PyErr_Format(PyExc_ValueError, "the slice has %zd bytes and the value %zd; a Region keeps its size",
                     length, from.len);
        result = -1;
    } else if (step == 1) {
        result = copy(self, (void *)(self->address + (size_t)start), from.buf, (size_t)length);
    } else {
        for (Py_ssize_t i = 0; result == 0 && i < length; i++)
            result = store_byte(self, (size_t)(start + i * step), ((unsigned char *)from.buf)[i]);
    }
    PyBuffer_Release(&from);
    return result;
}

static int region_store(Region *self, PyObject *key, PyObject *value) {
    if (check_open(self) < 0)
        return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "a Region keeps its size: bytes cannot be deleted");
        return -1;
    }
    if (PySlice_Check(key))
        return store_slice(self, key, value);
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a Region's indices are int or slice, not %.100s",
                     Py_TYPE(key)->tp_name);
        return -1;
    }
    size_t index;
    if (index_of(self, key, &index) < 0)
        return -1;
    long byte = PyLong_AsLong(value);
    if (byte == -1 && PyErr_Occurred())
        return -1;
    if (byte < 0 || byte > 255) {
        PyErr_Format(PyExc_ValueError, "%R is no byte; it must be 0 to 255", value);
        return -1;
    }
    return store_byte(self, index, (unsigned char)byte);
}

static int out_of_bounds(Region *self, Py_ssize_t offset, Py_ssize_t length) {
    if (offset >= 0 && length >= 0 && (size_t)offset <= self->size &&
        (size_t)length <= self->size - (size_t)offset)
        return 0;
    PyErr_Format(PyExc_ValueError, "%zd bytes at offset %zd do not lie within the Region's %zu bytes", length,
                 offset, self->size);
    return -1;
}

static PyObject *region_read(Region *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"offset", "size", NULL};
    Py_ssize_t offset = 0, length;
    PyObject *size = Py_None;
    if (check_open(self) < 0 ||
        !PyArg_ParseTupleAndKeywords(args, keywords, "|nO:read", names, &offset, &size))
        return NULL;
    length =
        size == Py_None ? (Py_ssize_t)self->size - offset : PyNumber_AsSsize_t(size, PyExc_OverflowError);
    if ((length == -1 && PyErr_Occurred()) || out_of_bounds(self, offset, length) < 0)
        return NULL;
    return read_bytes(self, (size_t)offset, (size_t)length);
}

static PyObject *region_write(Region *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"offset", "data", NULL};
    Py_ssize_t offset;
    Py_buffer data;
    if (check_open(self) < 0 ||
        !PyArg_ParseTupleAndKeywords(args, keywords, "ny*:write", names, &offset, &data))
        return NULL;
    int failed = out_of_bounds(self, offset, data.len);
    if (!failed)
        failed = copy(self, (void *)(self->address + (size_t)offset), data.buf, (size_t)data.len);
    Py_ssize_t written = data.len;
    PyBuffer_Release(&data);
    return failed ? NULL : PyLong_FromSsize_t(written);
}

// ---- protection

// None when pages differ.
static int uniform_prot(Region *self, uint8_t *ret) {
    *ret = self->overlay.prot[0];
    for (size_t page = 1; page < self->overlay.pages; page++) {
        if (self->overlay.prot[page] != *ret)
            return -1;
    }
    return 0;
}

static PyObject *region_get_prot(Region *self, void *unused) {
    (void)unused;
    uint8_t prot;
    if (check_open(self) < 0)
        return NULL;
    if (uniform_prot(self, &prot) < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(prot);
}

// page_protections(first, count) -> bytes, one per page
static PyObject *region_page_protections(Region *self, PyObject *args) {
    Py_ssize_t first, count;
    if (check_open(self) < 0 || !PyArg_ParseTuple(args, "nn:page_protections", &first, &count))
        return NULL;
    if (first < 0 || count < 0 || (size_t)first > self->overlay.pages ||
        (size_t)count > self->overlay.pages - (size_t)first)
        return PyErr_Format(PyExc_ValueError, "%zd pages from page %zd on are not all of the Region's", count,
                            first);
    return PyBytes_FromStringAndSize((char *)self->overlay.prot + first, count);
}

// protect_pages(first, count, prot)
static PyObject *region_protect_pages(Region *self, PyObject *args) {
    Py_ssize_t first, count;
    int prot, failed;
    if (check_open(self) < 0 || !PyArg_ParseTuple(args, "nni:protect_pages", &first, &count, &prot))
        return NULL;
    if (first < 0 || count < 0 || (size_t)first > self->overlay.pages ||
        (size_t)count > self->overlay.pages - (size_t)first)
        return PyErr_Format(PyExc_ValueError, "%zd pages from page %zd on are not all of the Region's", count,
                            first);
    do {
        memprot_record_close_pages(&self->overlay, (size_t)first, (size_t)count);
        failed = memprot_overlay_protect(&self->overlay, (size_t)first, (size_t)count, (uint8_t)prot);
    } while (failed && errno == EBUSY);
    if (failed)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

// ---- buffer protocol

static int region_get_buffer(Region *self, Py_buffer *view, int flags) {
    if (check_open(self) < 0)
        return -1;
    bool readonly = false;
    for (size_t page = 0; page < self->overlay.pages; page++)
        readonly |= !(self->overlay.prot[page] & PROT_WRITE);
    if (readonly && (flags & PyBUF_WRITABLE)) {
        PyErr_SetString(PyExc_BufferError, "the Region is not writable now; protect it with \"rw-\" first");
        return -1;
    }
    if (PyBuffer_FillInfo(view, (PyObject *)self, (void *)self->address, (Py_ssize_t)self->size, readonly,
                          flags) < 0)
        return -1;
    self->exports++;
    return 0;
}

static void region_release_buffer(Region *self, Py_buffer *view) {
    (void)view;
    self->exports--;
}

// ---- attributes

static PyObject *region_get_address(Region *self, void *unused) {
    (void)unused;
    return check_open(self) < 0 ? NULL : PyLong_FromUnsignedLongLong(self->address);
}

static PyObject *region_get_closed(Region *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(!self->map_start);
}

static PyObject *region_get_extent(Region *self, void *unused) {
    (void)unused;
    if (check_open(self) < 0)
        return NULL;
    return Py_BuildValue("(KK)", (unsigned long long)self->data_start,
                         (unsigned long long)(self->data_start + self->data_length));
}

static PyObject *region_get_stack(Region *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->stack);
}

// region_at(address) -> the open Region whose mapping, guards included, holds the address, or None
static PyObject *region_at(PyObject *module, PyObject *value) {
    (void)module;
    unsigned long long address = PyLong_AsUnsignedLongLong(value);
    if (address == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    for (Region *region = all; region; region = region->next) {
        if (address - region->map_start < region->map_length && Py_REFCNT(region) > 0)
            return Py_NewRef(region);
    }
    Py_RETURN_NONE;
}

static PyObject *set_region_fault(PyObject *module, PyObject *callable) {
    (void)module;
    Py_XSETREF(fault_factory, Py_NewRef(callable));
    Py_RETURN_NONE;
}

static PyMethodDef region_methods[] = {
    {"close", (PyCFunction)region_close, METH_NOARGS, DOC_Region_close},
    {"read", (PyCFunction)(void (*)(void))region_read, METH_VARARGS | METH_KEYWORDS, DOC_Region_read},
    {"write", (PyCFunction)(void (*)(void))region_write, METH_VARARGS | METH_KEYWORDS, DOC_Region_write},
    {"page_protections", (PyCFunction)region_page_protections, METH_VARARGS, DOC_Region_page_protections},
    {"protect_pages", (PyCFunction)region_protect_pages, METH_VARARGS, DOC_Region_protect_pages},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef region_attributes[] = {
    {"address", (getter)region_get_address, NULL, DOC_Region_address, NULL},
    {"closed", (getter)region_get_closed, NULL, DOC_Region_closed, NULL},
    {"extent", (getter)region_get_extent, NULL, DOC_Region_extent, NULL},
    {"protection", (getter)region_get_prot, NULL, DOC_Region_protection, NULL},
    {"stack", (getter)region_get_stack, NULL, DOC_Region_stack, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef region_members[] = {
    {"size", T_PYSSIZET, offsetof(Region, size), READONLY, DOC_Region_size},
    {"shared", T_BOOL, offsetof(Region, shared), READONLY, DOC_Region_shared},
    {"guarded", T_BOOL, offsetof(Region, guarded), READONLY, DOC_Region_guarded},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Region, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot region_slots[] = {
    {Py_tp_doc, (char *)DOC_Region},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, region_init},
    {Py_tp_dealloc, region_dealloc},
    {Py_tp_methods, region_methods},
    {Py_tp_getset, region_attributes},
    {Py_tp_members, region_members},
    {Py_mp_length, region_length},
    {Py_mp_subscript, region_subscript},
    {Py_mp_ass_subscript, region_store},
    {Py_sq_length, region_length},
    {Py_bf_getbuffer, region_get_buffer},
    {Py_bf_releasebuffer, region_release_buffer},
    {0, NULL},
};

static PyType_Spec region_spec = {
    .name = "memprot._native.Region",
    .basicsize = sizeof(Region),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = region_slots,
};

static PyMethodDef methods[] = {
    {"region_at", region_at, METH_O, DOC_region_at},
    {"set_region_fault", set_region_fault, METH_O, DOC_set_region_fault},
    {NULL, NULL, 0, NULL},
};

int memprot_add_region(PyObject *module) {
    PyObject *type = PyType_FromSpec(&region_spec);
    if (!type)
        return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed ? failed : PyModule_AddFunctions(module, methods);
}
