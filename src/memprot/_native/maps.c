// MapsFile: the /proc/PID/maps of one process, kept open for questions about single addresses.
#include "binding.h"

#include "critical_section.h"
#include "docstrings.h"
#include "kept_file.h"
#include "maps.h"
#include "own_file.h"
#include "own_maps.h"
#include "proc_text.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD int directory;   // /proc/PID, which stays with that process when its number is given to
                                   // another; -1: ourselves, of whom one file is open for the whole process
    struct memprot_kept_file file; // another process's maps, for find()
} MapsFile;

static int open_text(const MapsFile *self, const char *name) {
    if (self->directory >= 0)
        return openat(self->directory, name, O_RDONLY | O_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int no_descriptor_left(int error) { return error == EMFILE || error == ENFILE; }

static void forget_file(MapsFile *self) {
    if (self->directory < 0)
        memprot_own_maps_close();
    else
        memprot_kept_file_deinit(&self->file);
}

// The file to ask, opened when it is not; -1 with errno set.
static int open_file(MapsFile *self) {
    if (self->directory < 0)
        return memprot_own_maps_descriptor();
    if (memprot_kept_file_is_open(&self->file))
        return self->file.fd;
    int fd = open_text(self, "maps");
    return fd < 0 || memprot_kept_file_set(&self->file, fd) < 0 ? -1 : fd;
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
    self->directory = -1;
    memprot_kept_file_init(&self->file);
    int failed = 0;
    if (pid != Py_None) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%s%llu", negative ? "-" : "", (unsigned long long)number);
        self->directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        failed = self->directory < 0;
    }
    if (!failed)
        failed = open_file(self) < 0 && (self->directory >= 0 || !no_descriptor_left(errno));
    if (failed) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void maps_dealloc(PyObject *object) {
    MapsFile *self = (MapsFile *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->directory >= 0) {
        forget_file(self);
        close(self->directory);
    }
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

static int read_maps(int fd, void *context) { return memprot_maps_read(fd, context); }

static PyObject *maps_read(PyObject *object, PyObject *Py_UNUSED(ignored)) {
    MapsFile *self = (MapsFile *)object;
    struct memprot_maps maps;
    memprot_maps_init(&maps);
    int fd, status, error;
    Py_BEGIN_ALLOW_THREADS;
    // A descriptor of its own: the kernel keeps one place in the text per open file, and threads may read at
    // once.
    fd = open_text(self, "maps");
    status = fd < 0 ? -1 : memprot_maps_read(fd, &maps);
    error = errno;
    if (fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS;
    if (fd < 0 && no_descriptor_left(error) && (fd = open_file(self)) >= 0) {
        // No descriptor is left. The one at hand serves a single reader at a time, so the others have to
        // wait.
        Py_BEGIN_CRITICAL_SECTION(object);
        status = memprot_maps_read(fd, &maps);
        error = errno;
        Py_END_CRITICAL_SECTION();
    } else if (fd < 0 && no_descriptor_left(error) && self->directory < 0) {
        status = memprot_with_own_file("/proc/self/maps", read_maps, &maps);
        error = errno;
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

typedef int find_function(int fd, uint64_t address, struct memprot_maps *maps, const struct memprot_mapping **ret);

struct search {
    find_function *find;
    uint64_t address;
    struct memprot_maps maps;
    const struct memprot_mapping *found;
};

static int search_maps(int fd, void *context) {
    struct search *search = context;
    return search->find(fd, search->address, &search->maps, &search->found);
}

// After an execve the open file speaks of another address space than the process has.
static int find_mapping(MapsFile *self, struct search *search) {
    for (int attempt = 0, fd; (fd = open_file(self)) >= 0; attempt++) {
        int status = search_maps(fd, search);
        if (status == 0 || errno != ESRCH || attempt > 0)
            return status;
        forget_file(self);
    }
    if (self->directory >= 0 || !no_descriptor_left(errno))
        return -1;
    return memprot_with_own_file("/proc/self/maps", search_maps, search);
}

static PyObject *find_with(PyObject *object, const char *name, find_function *find, PyObject *argument) {
    struct search search = {.find = find};
    int negative, status, error;
    if (memprot_as_number(name, "address", argument, &negative, &search.address) < 0)
        return NULL;
    if (negative)
        Py_RETURN_NONE;
    memprot_maps_init(&search.maps);
    Py_BEGIN_CRITICAL_SECTION(object);
    status = find_mapping((MapsFile *)object, &search);
    error = errno;
    Py_END_CRITICAL_SECTION();
    PyObject *result;
    if (status < 0) {
        errno = error;
        result = PyErr_SetFromErrno(PyExc_OSError);
    } else
        result = search.found == NULL ? Py_NewRef(Py_None) : memprot_new_mapping(search.found, NULL);
    memprot_maps_deinit(&search.maps);
    return result;
}

static PyObject *maps_find(PyObject *object, PyObject *argument) {
    return find_with(object, "find", memprot_maps_find, argument);
}

static PyObject *maps_find_next(PyObject *object, PyObject *argument) {
    return find_with(object, "find_next", memprot_maps_find_next, argument);
}

// Gives a text of the process to a function; other Python threads run meanwhile.
static int with_text(const MapsFile *self, const char *name, int (*use)(int fd, void *context), void *context) {
    int status, error;
    Py_BEGIN_ALLOW_THREADS;
    if (self->directory < 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/%s", name);
        status = memprot_with_own_file(path, use, context);
        error = errno;
    } else {
        int fd = open_text(self, name);
        status = fd < 0 ? -1 : use(fd, context);
        error = errno;
        if (fd >= 0)
            close(fd);
    }
    Py_END_ALLOW_THREADS;
    errno = error;
    return status;
}

static int count_mappings(int fd, void *context) { return memprot_count_mappings(fd, context); }

static PyObject *maps_count(PyObject *object, PyObject *Py_UNUSED(ignored)) {
    size_t count;
    if (with_text((MapsFile *)object, "maps", count_mappings, &count) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromSize_t(count);
}

struct flags {
    uint64_t address;
    size_t page_size;
    char text[MEMPROT_FLAGS_SIZE];
};

static int read_flags(int fd, void *context) {
    struct flags *flags = context;
    return memprot_mapping_flags(fd, flags->address, &flags->page_size, flags->text);
}

static PyObject *maps_flags(PyObject *object, PyObject *argument) {
    struct flags flags = {.page_size = 0};
    int negative;
    if (memprot_as_number("flags", "address", argument, &negative, &flags.address) < 0)
        return NULL;
    int status = with_text((MapsFile *)object, "smaps", read_flags, &flags);
    if (status < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (status == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("sn", flags.text, (Py_ssize_t)flags.page_size);
}

enum { TEXT_SIZE = 1 << 14 };

struct text {
    ssize_t length;
    char bytes[TEXT_SIZE];
};

static int read_text(int fd, void *context) {
    struct text *text = context;
    ssize_t got;
    while ((got = read(fd, text->bytes + text->length, (size_t)(TEXT_SIZE - text->length))) > 0)
        text->length += got;
    return got < 0 ? -1 : 0;
}

static PyObject *read_small_file(PyObject *Py_UNUSED(module), PyObject *argument) {
    PyObject *path;
    if (!PyUnicode_FSConverter(argument, &path))
        return NULL;
    struct text text = {.length = 0};
    int status = memprot_with_own_file(PyBytes_AS_STRING(path), read_text, &text);
    if (status < 0)
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, argument);
    Py_DECREF(path);
    return status < 0 ? NULL : PyBytes_FromStringAndSize(text.bytes, text.length);
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
    {"find_next", maps_find_next, METH_O, DOC_MapsFile_find_next},
    {"count", maps_count, METH_NOARGS, DOC_MapsFile_count},
    {"flags", maps_flags, METH_O, DOC_MapsFile_flags},
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
    {"read_small_file", read_small_file, METH_O, DOC_read_small_file},
    {NULL, NULL, 0, NULL},
};

int memprot_add_maps(PyObject *module) {
    static int registered;
    if (!registered) {
        int error = pthread_atfork(NULL, NULL, memprot_own_maps_close);
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
