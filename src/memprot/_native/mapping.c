// Mapping: one line of /proc/PID/maps, kept as numbers; its Python objects are made when somebody looks at
// them.
#include "binding.h"

#include "docstrings.h"
#include "maps.h"

#include <stddef.h>
#include <string.h>

typedef struct {
    PyObject_HEAD struct memprot_mapping raw; // raw.path is NULL: the path is below
    PyObject *path;                           // str or None
} Mapping;

enum { PROTECTIONS = 8 }; // every combination of read, write and execute

static PyTypeObject *mapping_type;
// What memprot.space.mapping registers: turns str and int into a Prot; its members; the members of the kind
// enum.
static PyObject *as_prot, *prots[PROTECTIONS], *kinds[MEMPROT_KIND_COUNT];

static const struct memprot_mapping *raw_of(PyObject *mapping) { return &((Mapping *)mapping)->raw; }

PyObject *memprot_mapping_path(PyObject *mapping) { return ((Mapping *)mapping)->path; }

PyObject *memprot_new_mapping(const struct memprot_mapping *mapping, PyObject *path) {
    if (path != NULL)
        Py_INCREF(path);
    else if (mapping->path == NULL)
        path = Py_NewRef(Py_None);
    else if ((path = PyUnicode_DecodeFSDefaultAndSize(mapping->path, mapping->path_length)) == NULL)
        return NULL;
    Mapping *made = PyObject_New(Mapping, mapping_type);
    if (made == NULL) {
        Py_DECREF(path);
        return NULL;
    }
    made->raw = *mapping;
    made->raw.path = NULL;
    made->raw.path_length = 0;
    made->path = path;
    return (PyObject *)made;
}

static void mapping_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((Mapping *)self)->path);
    PyObject_Free(self);
    Py_DECREF(type);
}

// The constructor.

int memprot_as_number(const char *function, const char *parameter, PyObject *object, int *negative, uint64_t *ret) {
    if (!PyLong_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s() argument '%s' must be an int, not %.200s", function, parameter,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(object, &overflow);
    if (value == -1 && PyErr_Occurred())
        return -1;
    *negative = overflow == 0 && value < 0;
    *ret = overflow > 0 ? PyLong_AsUnsignedLong(object) : (uint64_t)value;
    if (overflow < 0 || PyErr_Occurred()) {
        PyErr_Format(PyExc_OverflowError, "%s() argument '%s' does not fit in 64 bits", function, parameter);
        return -1;
    }
    return 0;
}

static int number(const char *parameter, PyObject *object, uint64_t limit, uint64_t *ret) {
    int negative;
    if (memprot_as_number("Mapping", parameter, object, &negative, ret) < 0)
        return -1;
    if (negative || *ret > limit) {
        PyErr_Format(PyExc_ValueError, "Mapping() argument '%s' must be from 0 to %llu, not %R", parameter,
                     (unsigned long long)limit, object);
        return -1;
    }
    return 0;
}

static int take_prot(PyObject *value, struct memprot_mapping *ret) {
    if (as_prot == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "import memprot.space.mapping first: it gives Mapping its protections");
        return -1;
    }
    PyObject *prot = PyObject_CallOneArg(as_prot, value);
    uint64_t bits;
    int status = prot == NULL ? -1 : number("prot", prot, PROTECTIONS - 1, &bits);
    Py_XDECREF(prot);
    if (status == 0)
        ret->prot = (uint8_t)bits;
    return status;
}

static int take_device(PyObject *device, struct memprot_mapping *ret) {
    if (device == NULL)
        return 0;
    if (!PyTuple_Check(device) || PyTuple_GET_SIZE(device) != 2) {
        PyErr_Format(PyExc_TypeError, "Mapping() argument 'device' must be a pair (major, minor), not %R", device);
        return -1;
    }
    uint64_t major, minor;
    if (number("device", PyTuple_GET_ITEM(device, 0), UINT32_MAX, &major) < 0 ||
        number("device", PyTuple_GET_ITEM(device, 1), UINT32_MAX, &minor) < 0)
        return -1;
    ret->device_major = (uint32_t)major;
    ret->device_minor = (uint32_t)minor;
    return 0;
}

static int take_kind(PyObject *kind, PyObject *path, struct memprot_mapping *ret) {
    if (kind != Py_None) {
        for (int i = 0; PyUnicode_Check(kind) && i < MEMPROT_KIND_COUNT; i++) {
            if (PyUnicode_CompareWithASCIIString(kind, memprot_kind_name(i)) == 0) {
                ret->kind = (uint8_t)i;
                return 0;
            }
        }
        PyErr_Format(PyExc_ValueError, "Mapping() argument 'kind' must be a MappingKind or its value, not %R", kind);
        return -1;
    }
    PyObject *bytes = path == Py_None ? PyBytes_FromString("") : PyUnicode_EncodeFSDefault(path);
    if (bytes == NULL)
        return -1;
    ret->path = PyBytes_AS_STRING(bytes);
    ret->path_length = (uint32_t)PyBytes_GET_SIZE(bytes);
    ret->kind = (uint8_t)memprot_mapping_kind(ret);
    ret->path = NULL;
    ret->path_length = 0;
    Py_DECREF(bytes);
    return 0;
}

static PyObject *mapping_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *keywords) {
    static char *names[] = {"start", "stop", "prot",    "shared", "offset", "device",
                            "inode", "path", "deleted", "kind",   NULL};
    struct memprot_mapping raw = {0};
    PyObject *start, *stop, *prot, *offset = NULL, *device = NULL, *inode = NULL, *path = Py_None, *kind = Py_None;
    int shared = 0, deleted = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO|pOOOOpO:Mapping", names, &start, &stop, &prot, &shared,
                                     &offset, &device, &inode, &path, &deleted, &kind))
        return NULL;
    if (number("start", start, UINT64_MAX, &raw.start) < 0 || number("stop", stop, UINT64_MAX, &raw.stop) < 0 ||
        take_prot(prot, &raw) < 0 || (offset != NULL && number("offset", offset, UINT64_MAX, &raw.offset) < 0) ||
        take_device(device, &raw) < 0 || (inode != NULL && number("inode", inode, UINT64_MAX, &raw.inode) < 0))
        return NULL;
    if (raw.stop <= raw.start) {
        PyErr_Format(PyExc_ValueError, "a Mapping must stop after it starts, not at %R when it starts at %R", stop,
                     start);
        return NULL;
    }
    if (path != Py_None && !PyUnicode_Check(path)) {
        PyErr_Format(PyExc_TypeError, "Mapping() argument 'path' must be str or None, not %.200s",
                     Py_TYPE(path)->tp_name);
        return NULL;
    }
    raw.shared = shared != 0;
    raw.deleted = deleted != 0;
    return take_kind(kind, path, &raw) < 0 ? NULL : memprot_new_mapping(&raw, path);
}

// Attributes.

static PyObject *get_start(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(raw_of(self)->start);
}

static PyObject *get_stop(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(raw_of(self)->stop);
}

static PyObject *get_size(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(raw_of(self)->stop - raw_of(self)->start);
}

static PyObject *registered(PyObject *member) {
    if (member == NULL)
        PyErr_SetString(PyExc_RuntimeError, "import memprot.space.mapping first: it gives Mapping its enums");
    return Py_XNewRef(member);
}

static PyObject *get_prot(PyObject *self, void *Py_UNUSED(closure)) { return registered(prots[raw_of(self)->prot]); }

static PyObject *get_kind(PyObject *self, void *Py_UNUSED(closure)) { return registered(kinds[raw_of(self)->kind]); }

static PyObject *get_shared(PyObject *self, void *Py_UNUSED(closure)) { return PyBool_FromLong(raw_of(self)->shared); }

static PyObject *get_deleted(PyObject *self, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(raw_of(self)->deleted);
}

static PyObject *get_offset(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(raw_of(self)->offset);
}

static PyObject *get_inode(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(raw_of(self)->inode);
}

static PyObject *get_device(PyObject *self, void *Py_UNUSED(closure)) {
    return Py_BuildValue("(II)", raw_of(self)->device_major, raw_of(self)->device_minor);
}

static PyObject *get_path(PyObject *self, void *Py_UNUSED(closure)) { return Py_NewRef(memprot_mapping_path(self)); }

#define ATTRIBUTE(name) {#name, get_##name, NULL, DOC_Mapping_##name, NULL}
static PyGetSetDef attributes[] = {
    ATTRIBUTE(start),  ATTRIBUTE(stop),  ATTRIBUTE(size), ATTRIBUTE(prot),    ATTRIBUTE(shared), ATTRIBUTE(offset),
    ATTRIBUTE(device), ATTRIBUTE(inode), ATTRIBUTE(path), ATTRIBUTE(deleted), ATTRIBUTE(kind),   {0},
};

// What makes it a value: length, containment, order, hash, pickling, repr.

static Py_ssize_t mapping_length(PyObject *self) {
    uint64_t size = raw_of(self)->stop - raw_of(self)->start;
    if (size > PY_SSIZE_T_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the mapping is longer than len() can say; use its size");
        return -1;
    }
    return (Py_ssize_t)size;
}

static int mapping_contains(PyObject *self, PyObject *object) {
    int negative;
    uint64_t address;
    if (memprot_as_number("Mapping.__contains__", "address", object, &negative, &address) < 0)
        return -1;
    return !negative && raw_of(self)->start <= address && address < raw_of(self)->stop;
}

#define DIFFERENCE(field) ((left->field > right->field) - (left->field < right->field))

// -1, 0 or 1 as strcmp has it, by address first; -2 with an exception set.
static int compare(PyObject *first, PyObject *second) {
    const struct memprot_mapping *left = raw_of(first), *right = raw_of(second);
    const int differences[] = {
        DIFFERENCE(start),        DIFFERENCE(stop),         DIFFERENCE(prot),  DIFFERENCE(shared),  DIFFERENCE(offset),
        DIFFERENCE(device_major), DIFFERENCE(device_minor), DIFFERENCE(inode), DIFFERENCE(deleted), DIFFERENCE(kind),
    };
    for (size_t i = 0; i < sizeof differences / sizeof *differences; i++) {
        if (differences[i] != 0)
            return differences[i];
    }
    PyObject *one = memprot_mapping_path(first), *other = memprot_mapping_path(second);
    if (one == other)
        return 0;
    if (one == Py_None || other == Py_None)
        return one == Py_None ? -1 : 1;
    int order = PyUnicode_Compare(one, other);
    return order == -1 && PyErr_Occurred() ? -2 : order;
}

static PyObject *mapping_richcompare(PyObject *self, PyObject *other, int operation) {
    if (!Py_IS_TYPE(other, mapping_type))
        Py_RETURN_NOTIMPLEMENTED;
    int order = compare(self, other);
    if (order == -2)
        return NULL;
    Py_RETURN_RICHCOMPARE(order, 0, operation);
}

static Py_hash_t mapping_hash(PyObject *self) {
    const struct memprot_mapping *raw = raw_of(self);
    const uint64_t fields[] = {raw->start, raw->stop, raw->offset, raw->inode, raw->prot};
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        hash = (hash ^ fields[i]) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 32; // addresses differ in the middle bits; sets look at the low ones
    }
    return hash == (uint64_t)-1 ? -2 : (Py_hash_t)hash;
}

static PyObject *mapping_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const struct memprot_mapping *raw = raw_of(self);
    return Py_BuildValue("O(KKiOK(II)KOOs)", mapping_type, (unsigned long long)raw->start,
                         (unsigned long long)raw->stop, raw->prot, raw->shared ? Py_True : Py_False,
                         (unsigned long long)raw->offset, raw->device_major, raw->device_minor,
                         (unsigned long long)raw->inode, memprot_mapping_path(self), raw->deleted ? Py_True : Py_False,
                         memprot_kind_name(raw->kind));
}

static PyObject *mapping_repr(PyObject *self) {
    const struct memprot_mapping *raw = raw_of(self);
    char range[64];
    PyOS_snprintf(range, sizeof range, "0x%llx-0x%llx", (unsigned long long)raw->start, (unsigned long long)raw->stop);
    const char *readable = raw->prot & 1 ? "r" : "-", *writable = raw->prot & 2 ? "w" : "-",
               *executable = raw->prot & 4 ? "x" : "-";
    if (memprot_mapping_path(self) == Py_None)
        return PyUnicode_FromFormat("<Mapping %s %s%s%s%s %s>", range, readable, writable, executable,
                                    raw->shared ? "s" : "p", memprot_kind_name(raw->kind));
    return PyUnicode_FromFormat("<Mapping %s %s%s%s%s %s %R%s>", range, readable, writable, executable,
                                raw->shared ? "s" : "p", memprot_kind_name(raw->kind), memprot_mapping_path(self),
                                raw->deleted ? " (deleted)" : "");
}

static PyMethodDef mapping_methods[] = {
    {"__reduce__", mapping_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)DOC_Mapping},
    {Py_tp_new, mapping_new},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_repr, mapping_repr},
    {Py_tp_hash, mapping_hash},
    {Py_tp_richcompare, mapping_richcompare},
    {Py_tp_getset, attributes},
    {Py_tp_methods, mapping_methods},
    {Py_sq_length, mapping_length},
    {Py_sq_contains, mapping_contains},
    {0, NULL},
};

// The name is where pickle finds the type together with the enums it needs. Nothing in it can form a cycle,
// so twenty thousand of them are no work for the garbage collector.
static PyType_Spec spec = {
    .name = "memprot.space.mapping.Mapping",
    .basicsize = sizeof(Mapping),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyObject *set_mapping_types(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *prot_factory, *kind_factory;
    if (!PyArg_ParseTuple(args, "OO:set_mapping_types", &prot_factory, &kind_factory))
        return NULL;
    for (int i = 0; i < PROTECTIONS; i++) {
        PyObject *member = PyObject_CallFunction(prot_factory, "i", i);
        if (member == NULL)
            return NULL;
        Py_XSETREF(prots[i], member);
    }
    for (int i = 0; i < MEMPROT_KIND_COUNT; i++) {
        PyObject *member = PyObject_CallFunction(kind_factory, "s", memprot_kind_name(i));
        if (member == NULL)
            return NULL;
        Py_XSETREF(kinds[i], member);
    }
    Py_XSETREF(as_prot, Py_NewRef(prot_factory));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_mapping_types", set_mapping_types, METH_VARARGS, DOC_set_mapping_types},
    {NULL, NULL, 0, NULL},
};

int memprot_add_mapping(PyObject *module) {
    mapping_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return mapping_type == NULL || PyModule_AddObjectRef(module, "Mapping", (PyObject *)mapping_type) < 0
               ? -1
               : PyModule_AddFunctions(module, methods);
}
