// MapsFile: the /proc/PID/maps of one process, kept open for questions about single addresses.
#include "binding.h"

#include "docstrings.h"
#include "maps.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION()         }
#endif

typedef struct {
    PyObject_HEAD int directory; // /proc/PID, which stays with that process when its number is given to
                                 // another; -1: ourselves
    int file;                    // its maps, for find(); -1: not opened yet
    unsigned generation;
} MapsFile;

// Counts the forks between the first process and this one. An open /proc/self/maps goes on speaking of the
// parent.
static unsigned generation;

static void count_fork(void) { generation++; }

static int open_maps(const MapsFile *self) {
    return self->directory < 0 ? open("/proc/self/maps", O_RDONLY | O_CLOEXEC)
                               : openat(self->directory, "maps", O_RDONLY | O_CLOEXEC);
}

static int is_current(const MapsFile *self) {
    return self->file >= 0 && (self->directory >= 0 || self->generation == generation);
}

static void forget_file(MapsFile *self) {
    if (self->file >= 0)
        close(self->file);
    self->file = -1;
}

static PyObject *maps_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"pid", NULL};
    PyObject *pid = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:MapsFile", names, &pid))
        return NULL;
    uint64_t number = 0;
    int negative = 0;
    if (pid != Py_None && memprot_as_number("MapsFile", "pid", pid, &negative, &number) < 0)
        return NULL;
    MapsFile *self = (MapsFile *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->directory = self->file = -1;
    self->generation = generation;
    int failed = 0;
    if (pid != Py_None) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%s%llu", negative ? "-" : "", (unsigned long long)number);
        self->directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        failed = self->directory < 0;
    }
    if (!failed) {
        self->file = open_maps(self);
        failed = self->file < 0;
    }
    if (failed) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void maps_dealloc(PyObject *object) {
    MapsFile *self = (MapsFile *)object;
    PyTypeObject *type = Py_TYPE(object);
    forget_file(self);
    if (self->directory >= 0)
        close(self->directory);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *list_of(const struct memprot_maps *maps) {
    PyObject *list = PyList_New((Py_ssize_t)maps->count);
    const char *path = NULL;
    PyObject *shared_path = NULL; // borrowed from the last mapping that has a path
    for (size_t i = 0; list != NULL && i < maps->count; i++) {
        const struct memprot_mapping *raw = &maps->mappings[i];
        PyObject *mapping = memprot_new_mapping(raw, raw->path != NULL && raw->path == path ? shared_path : NULL);
        if (mapping == NULL) {
            Py_CLEAR(list);
            break;
        }
        if (raw->path != NULL) {
            path = raw->path;
            shared_path = memprot_mapping_path(mapping);
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, mapping);
    }
    return list;
}

static PyObject *maps_read(PyObject *object, PyObject *Py_UNUSED(ignored)) {
    MapsFile *self = (MapsFile *)object;
    struct memprot_maps maps;
    memprot_maps_init(&maps);
    int fd, status, error;
    Py_BEGIN_ALLOW_THREADS;
    // A descriptor of its own: the kernel keeps one place in the text per open file, and threads may read at
    // once.
    fd = open_maps(self);
    status = fd < 0 ? -1 : memprot_maps_read(fd, &maps);
    error = errno;
    if (fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS;
    if (fd < 0 && (error == EMFILE || error == ENFILE) && is_current(self)) {
        // No descriptor is left. The one at hand serves a single reader at a time, so the others have to
        // wait.
        Py_BEGIN_CRITICAL_SECTION(object);
        status = memprot_maps_read(self->file, &maps);
        error = errno;
        Py_END_CRITICAL_SECTION();
    }
    PyObject *list = NULL;
    if (status < 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else
        list = list_of(&maps);
    memprot_maps_deinit(&maps);
    return list;
}

// After a fork or an execve the open file speaks of another address space than the process has.
static int find_mapping(MapsFile *self, uint64_t address, struct memprot_maps *maps,
                        const struct memprot_mapping **ret) {
    if (is_current(self)) {
        if (memprot_maps_find(self->file, address, maps, ret) == 0)
            return 0;
        if (errno != ESRCH)
            return -1;
    }
    forget_file(self);
    self->file = open_maps(self);
    self->generation = generation;
    return self->file < 0 ? -1 : memprot_maps_find(self->file, address, maps, ret);
}

static PyObject *maps_find(PyObject *object, PyObject *argument) {
    int negative, status, error;
    uint64_t address;
    if (memprot_as_number("find", "address", argument, &negative, &address) < 0)
        return NULL;
    if (negative)
        Py_RETURN_NONE;
    struct memprot_maps maps;
    const struct memprot_mapping *found;
    memprot_maps_init(&maps);
    Py_BEGIN_CRITICAL_SECTION(object);
    status = find_mapping((MapsFile *)object, address, &maps, &found);
    error = errno;
    Py_END_CRITICAL_SECTION();
    PyObject *result;
    if (status < 0) {
        errno = error;
        result = PyErr_SetFromErrno(PyExc_OSError);
    } else
        result = found == NULL ? Py_NewRef(Py_None) : memprot_new_mapping(found, NULL);
    memprot_maps_deinit(&maps);
    return result;
}

static PyObject *parse_maps(PyObject *Py_UNUSED(module), PyObject *argument) {
    char *text;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(argument, &text, &length) < 0)
        return NULL;
    struct memprot_maps maps;
    memprot_maps_init(&maps);
    PyObject *list = NULL;
    size_t line;
    if (memprot_maps_parse(text, (size_t)length, &maps, &line) == 0)
        list = list_of(&maps);
    else if (errno == EBADMSG)
        PyErr_Format(PyExc_ValueError,
                     "line %zu of the text is not one of /proc/PID/maps; see proc_pid_maps(5) for the form", line);
    else
        PyErr_SetFromErrno(PyExc_OSError);
    memprot_maps_deinit(&maps);
    return list;
}

static PyMethodDef maps_methods[] = {
    {"read", maps_read, METH_NOARGS, DOC_MapsFile_read},
    {"find", maps_find, METH_O, DOC_MapsFile_find},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)DOC_MapsFile},
    {Py_tp_new, maps_new},
    {Py_tp_dealloc, maps_dealloc},
    {Py_tp_methods, maps_methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "memprot._native.MapsFile",
    .basicsize = sizeof(MapsFile),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef methods[] = {
    {"parse_maps", parse_maps, METH_O, DOC_parse_maps},
    {NULL, NULL, 0, NULL},
};

int memprot_add_maps(PyObject *module) {
    static int registered;
    if (!registered) {
        int error = pthread_atfork(NULL, NULL, count_fork);
        if (error != 0) {
            errno = error;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        registered = 1;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int status = type == NULL ? -1 : PyModule_AddObjectRef(module, "MapsFile", type);
    Py_XDECREF(type);
    return status < 0 ? -1 : PyModule_AddFunctions(module, methods);
}
