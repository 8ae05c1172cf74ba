// The Region type's native half: a mapping with an overlay, and accessors that cannot kill the process.
#include "region.h"
#include "critical_section.h"
#include "docstrings.h"

#include "engine.h"
#include "interpreter.h"
#include "stacks.h"

#include "armed.h"
#include "calls.h"
#include "epoch.h"
#include "fault.h"
#include "guard_pages.h"
#include "memory_file.h"
#include "page.h"
#include "ranges.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <structmember.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum side { NO_GUARDS, GUARD_RIGHT, GUARD_LEFT };
enum { GUARD_LENGTH = 64 << 10 };

// ---- mapping and unmapping

static int map_pages(Region *self, int prot, int fd, off_t offset) {
    int flags = (self->shared ? MAP_SHARED : MAP_PRIVATE) | (fd < 0 ? MAP_ANONYMOUS : 0);
    size_t margin = self->guarded ? GUARD_LENGTH : 0;
    self->map_length = self->data_length + 2 * margin;
    char *start = mmap(NULL, self->map_length, self->guarded ? PROT_READ | PROT_WRITE : prot, flags, fd, offset);
    if (start == MAP_FAILED)
        return -1;
    self->map_start = (uintptr_t)start;
    self->data_start = self->map_start + margin;
    if (!self->guarded)
        return 0;
    memprot_guard_pages_by_madvise();
    if (memprot_guard_pages_install(self->map_start, margin) < 0 ||
        memprot_guard_pages_install(self->data_start + self->data_length, margin) < 0)
        return -1;
    return memprot_mprotect(self->data_start, self->data_length, (unsigned long)prot);
}

static int answer_for_pages(Region *self, int prot, int fd, off_t offset) {
    size_t page = memprot_page_size();
    enum memprot_backing backing = self->shared ? MEMPROT_BACKING_SHARED : MEMPROT_BACKING_PRIVATE;
    struct memprot_overlay *overlay = calloc(1, sizeof *overlay);
    if (!overlay)
        return -1;
    self->overlay = overlay;
    if (memprot_overlay_init(overlay, self->data_start, self->data_length / page, backing, MEMPROT_PAGE_REAL,
                             (uint8_t)prot) < 0)
        return -1;
    overlay->offset = offset;
    if (self->shared && (overlay->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)) < 0)
        return -1;
    if (memprot_ranges_add(self->data_start, self->data_start + self->data_length, overlay) < 0)
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

void memprot_region_forget(struct memprot_overlay *overlay) {
    if (!overlay->prot)
        return;
    memprot_ranges_remove(overlay);
    memprot_record_close_pages(overlay, 0, overlay->pages);
    if (overlay->fd >= 0)
        close(overlay->fd);
    memprot_overlay_deinit(overlay);
}

// Gives back whatever there is; safe on a region that was only half made.
static int release(Region *self) {
    int failed = 0;
    if (self->overlay)
        memprot_region_forget(self->overlay);
    memprot_region_forget(&self->guards);
    free(self->overlay);
    self->overlay = NULL;
    if (self->map_start) {
        // What is sealed stays until the process ends, and what is not sealed of the same Region with it.
        failed = self->sealed ? 0 : munmap((void *)self->map_start, self->map_length);
        self->map_start = 0;
    }
    return failed;
}

static int map_region(Region *self, int prot, const char *name, bool huge, enum side side, int fd, off_t offset) {
    int file = fd;
    self->guarded = side != NO_GUARDS;
    self->data_length = memprot_page_ceil(self->size);
    if (self->shared && fd < 0 && (file = memprot_memory_file_open(name ? name : "memprot", self->data_length)) < 0)
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

static int region_init_inside(Region *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"size", "prot", "shared", "name", "huge", "side", "fd", "offset", NULL};
    Py_ssize_t size;
    int prot, shared, huge, side, fd;
    const char *name;
    long long offset;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "nipzpiiL", names, &size, &prot, &shared, &name, &huge, &side, &fd,
                                     &offset))
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
    memprot_region_link(self);
    return 0;
}

static MEMPROT_CRITICAL(int, region_init, (Region * self, PyObject *args, PyObject *keywords), self, self, args,
                        keywords)

    static PyObject *region_close_inside(Region *self) {
    if (!self->map_start)
        Py_RETURN_NONE;
    if (self->exports > 0) {
        PyErr_Format(PyExc_BufferError,
                     "cannot close the Region: %zd buffers of it are still in use; release them first", self->exports);
        return NULL;
    }
    memprot_region_unlink(self);
    int failed = release(self);
    memprot_engine_release();
    return failed ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

static MEMPROT_CRITICAL(PyObject *, region_close, (Region * self, PyObject *Py_UNUSED(unused)), self, self)

    static void region_dealloc(Region *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (PyType_IS_GC(type))
        PyObject_GC_UnTrack(self);
    if (self->weak_references)
        PyObject_ClearWeakRefs((PyObject *)self);
    if (self->map_start) {
        memprot_region_unlink(self);
        if (release(self) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        memprot_engine_release();
    }
    type->tp_free(self);
    Py_DECREF(type);
}

// ---- protection

// None when pages differ.
static int uniform_prot(Region *self, uint8_t *ret) {
    *ret = self->overlay->prot[0];
    for (size_t page = 1; page < self->overlay->pages; page++) {
        if (self->overlay->prot[page] != *ret)
            return -1;
    }
    return 0;
}

static PyObject *region_get_prot_inside(Region *self) {
    uint8_t prot;
    if (memprot_region_check_open(self) < 0)
        return NULL;
    int token = memprot_epoch_enter();
    memprot_overlay_learn(self->overlay, 0, self->overlay->pages);
    memprot_epoch_leave(token);
    if (uniform_prot(self, &prot) < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(prot);
}

static MEMPROT_CRITICAL(PyObject *, region_get_prot, (Region * self, void *Py_UNUSED(unused)), self, self)

    // protect_pages(first, count, prot)
    static PyObject *region_protect_pages_inside(Region *self, PyObject *args) {
    Py_ssize_t first, count;
    int prot, failed;
    if (memprot_region_check_open(self) < 0 || !PyArg_ParseTuple(args, "nni:protect_pages", &first, &count, &prot))
        return NULL;
    if (first < 0 || count < 0 || (size_t)first > self->overlay->pages ||
        (size_t)count > self->overlay->pages - (size_t)first)
        return PyErr_Format(PyExc_ValueError, "%zd pages from page %zd on are not all of the Region's", count, first);
    failed = count == 0 ? 0 : memprot_armed_change(self->overlay, (size_t)first, (size_t)count, (unsigned)prot);
    if (failed)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static MEMPROT_CRITICAL(PyObject *, region_protect_pages, (Region * self, PyObject *args), self, self, args)

    // set_policy(number)
    static PyObject *region_set_policy(Region *self, PyObject *number) {
    long policy = PyLong_AsLong(number);
    if ((policy == -1 && PyErr_Occurred()) || memprot_region_check_open(self) < 0)
        return NULL;
    if (policy < MEMPROT_POLICY_DIE || policy > MEMPROT_POLICY_NONE)
        return PyErr_Format(PyExc_ValueError, "%ld is no fault policy; they are 0 to %d", policy, MEMPROT_POLICY_NONE);
    memprot_record_settle(memprot_fault_thread()); // pages that are open fall under the policy of before
    // Handlers read it as they find it: a fault of this moment may still fall under the one of before.
    memprot_policy_of_memory(&self->overlay->policy, (enum memprot_policy)policy);
    memprot_policy_of_memory(&self->guards.policy, (enum memprot_policy)policy);
    memprot_engine_watch_calls();
    Py_RETURN_NONE;
}

// ---- attributes

// ---- attributes

static PyObject *region_get_address(Region *self, void *unused) {
    (void)unused;
    return memprot_region_check_open(self) < 0 ? NULL : PyLong_FromUnsignedLongLong(self->address);
}

static PyObject *region_get_closed(Region *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(!self->map_start);
}

static PyObject *region_get_extent(Region *self, void *unused) {
    (void)unused;
    if (memprot_region_check_open(self) < 0)
        return NULL;
    return Py_BuildValue("(KK)", (unsigned long long)self->data_start,
                         (unsigned long long)(self->data_start + self->data_length));
}

static PyObject *region_get_stack(Region *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(self->stack);
}

static PyMethodDef region_methods[] = {
    {"close", (PyCFunction)region_close, METH_NOARGS, DOC_Region_close},
    {"read", (PyCFunction)(void (*)(void))memprot_region_read, METH_FASTCALL | METH_KEYWORDS, DOC_Region_read},
    {"write", (PyCFunction)(void (*)(void))memprot_region_write, METH_FASTCALL | METH_KEYWORDS, DOC_Region_write},
    {"_split", (PyCFunction)memprot_region_split, METH_VARARGS, DOC_Region__split},
    {"set_policy", (PyCFunction)region_set_policy, METH_O, DOC_Region_set_policy},
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
    {Py_mp_length, memprot_region_length},
    {Py_mp_subscript, memprot_region_subscript},
    {Py_mp_ass_subscript, memprot_region_store},
    {Py_sq_length, memprot_region_length},
    {Py_bf_getbuffer, memprot_region_get_buffer},
    {Py_bf_releasebuffer, memprot_region_release_buffer},
    {0, NULL},
};

static PyType_Spec region_spec = {
    .name = "memprot._native.Region",
    .basicsize = sizeof(Region),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = region_slots,
};

int memprot_add_region(PyObject *module) {
    PyObject *type = PyType_FromSpec(&region_spec);
    if (!type)
        return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}
