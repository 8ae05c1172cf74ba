// A type of NumPy arrays whose statements raise their own faults: that of the arrays over a Region's bytes.
//
// Made from numpy.ndarray as it is found when the first such array is wanted; building needs no NumPy. Objects of the
// two types here are laid out as those of their bases, and differ in the operations only.
#include "array_slots.h"
#include "docstrings.h"

#include <stdbool.h>

// How NumPy's C API lays out the beginning of an array; numpy/_core/include/numpy/ndarraytypes.h fixes it.
struct array {
    PyObject_HEAD char *data;
    int dimensions;
    Py_ssize_t *shape, *strides;
    PyObject *base;
};

static PyTypeObject *ndarray;
static PyObject *reduce, *reduce_ex, *view;

static PyTypeObject array_type, flat_type;

static inline bool is_array(PyObject *object) { return PyObject_TypeCheck(object, ndarray); }

// Whose memory an array's is: the last of those it is a view of.
static PyObject *owner(PyObject *array) {
    PyObject *base;
    while (is_array(array) && (base = ((struct array *)array)->base) != NULL)
        array = base;
    return array;
}

// NumPy gives copies and results the type of what they were made from. Their memory is their own: they are plain
// arrays, which nobody else has seen yet.
static PyObject *finalize(PyObject *self, PyObject *template) {
    bool is_of_template = Py_TYPE(template) != &array_type || owner(self) == owner(template);
    if (Py_TYPE(self) == &array_type && (!((struct array *)self)->base || !is_of_template))
        Py_SET_TYPE(self, ndarray);
    Py_RETURN_NONE;
}

// __array_wrap__(array, context=None, return_scalar=...): NumPy 1 has no such flag, and makes scalars of plain results.
static PyObject *wrap(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count < 1 || count > 3 || !is_array(args[0]))
        return PyErr_Format(PyExc_TypeError, "__array_wrap__() takes an array, a context and whether to make a scalar");
    struct array *result = (struct array *)args[0];
    int is_scalar = count == 3 ? PyObject_IsTrue(args[2]) : 1;
    if (is_scalar < 0)
        return NULL;
    if (args[0] != self && owner(args[0]) == owner(self)) // a view that NumPy made plain on its way
        return memprot_array_result(PyObject_CallFunctionObjArgs(view, args[0], &array_type, NULL));
    if (args[0] == self || !is_scalar || result->dimensions > 0)
        return memprot_array_result(Py_NewRef(args[0]));
    PyObject *all = PyTuple_New(0), *scalar = all ? PyObject_GetItem(args[0], all) : NULL;
    Py_XDECREF(all);
    return memprot_array_result(scalar);
}

// A view of the same memory.
static PyObject *as_plain(PyObject *self) { return PyObject_CallFunctionObjArgs(view, self, ndarray, NULL); }

// A pickle is read where there may be no memprot, and never holds the memory itself.
static PyObject *call_plain(PyObject *method, PyObject *self, PyObject *argument) {
    PyObject *same = as_plain(self);
    PyObject *result = same ? PyObject_CallFunctionObjArgs(method, same, argument, NULL) : NULL;
    Py_XDECREF(same);
    return memprot_array_result(result);
}

static PyObject *array_reduce(PyObject *self, PyObject *unused) {
    (void)unused;
    return call_plain(reduce, self, NULL);
}

static PyObject *array_reduce_ex(PyObject *self, PyObject *protocol) { return call_plain(reduce_ex, self, protocol); }

static PyGetSetDef flat_attribute;

static PyObject *flat(PyObject *self, void *unused) {
    (void)unused;
    PyObject *iterator = flat_attribute.get(self, flat_attribute.closure);
    // Nobody else has it yet, and both types are static: neither counts its objects.
    if (iterator && Py_TYPE(iterator) == flat_type.tp_base)
        Py_SET_TYPE(iterator, &flat_type);
    return iterator;
}

// Where several arrays take part the result is of the type that ranks first. This one ranks below every other, as plain
// arrays do, and above numbers.
static PyObject *priority(PyObject *self, void *unused) {
    (void)self, (void)unused;
    return PyFloat_FromDouble(-1e-300);
}

static PyMethodDef array_methods[] = {
    {"__array_finalize__", finalize, METH_O, NULL},
    {"__array_wrap__", (PyCFunction)(void (*)(void))wrap, METH_FASTCALL, NULL},
    {"__reduce__", array_reduce, METH_NOARGS, NULL},
    {"__reduce_ex__", array_reduce_ex, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef array_attributes[] = {
    {"__array_priority__", priority, NULL, "The rank among the types of arrays that an operation combines.", NULL},
    {NULL, NULL, NULL, NULL, NULL}, // flat, real, imag
    {NULL, NULL, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

// By its name NumPy shows an array.
static PyTypeObject array_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "memprot._native.array",
    .tp_doc = "A NumPy array whose statements raise the faults they meet.",
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = array_methods,
    .tp_getset = array_attributes,
};

static PyTypeObject flat_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "memprot._native.flatiter",
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

static int ready(PyTypeObject *type, PyTypeObject *base) {
    type->tp_base = base;
    type->tp_basicsize = base->tp_basicsize;
    type->tp_itemsize = base->tp_itemsize;
    type->tp_hash = base->tp_hash;
    return PyType_Ready(type);
}

static int prepare(PyTypeObject *array, PyTypeObject *flat_iterator) {
    if (array->tp_basicsize < (Py_ssize_t)sizeof(struct array)) {
        PyErr_SetString(PyExc_RuntimeError, "this NumPy's arrays are smaller than memprot knows them");
        return -1;
    }
    if (memprot_array_slots_learn(array, flat_iterator) < 0 ||
        !(reduce = PyObject_GetAttrString((PyObject *)array, "__reduce__")) ||
        !(reduce_ex = PyObject_GetAttrString((PyObject *)array, "__reduce_ex__")) ||
        !(view = PyObject_GetAttrString((PyObject *)array, "view")))
        return -1;
    for (int which = MEMPROT_ARRAY_FLAT; which <= MEMPROT_ARRAY_IMAG; which++)
        array_attributes[1 + which] = memprot_array_attribute(which);
    flat_attribute = memprot_array_attribute(MEMPROT_ARRAY_FLAT);
    array_attributes[1 + MEMPROT_ARRAY_FLAT].get = flat;
    memprot_array_slots_give(&array_type);
    memprot_array_slots_give_flat(&flat_type);
    if (ready(&array_type, array) < 0 || ready(&flat_type, flat_iterator) < 0)
        return -1;
    ndarray = array;
    return 0;
}

// array_type(ndarray, flatiter)
static PyObject *type_of_arrays(PyObject *module, PyObject *args) {
    (void)module;
    PyTypeObject *array, *flat_iterator;
    if (!PyArg_ParseTuple(args, "O!O!:array_type", &PyType_Type, &array, &PyType_Type, &flat_iterator))
        return NULL;
    if (!ndarray && prepare(array, flat_iterator) < 0)
        return NULL;
    return Py_NewRef((PyObject *)&array_type);
}

// exact_arrays(ndarray, flatiter)
static PyObject *exact_arrays(PyObject *module, PyObject *args) {
    (void)module;
    PyTypeObject *array, *flat_iterator;
    if (!PyArg_ParseTuple(args, "O!O!:exact_arrays", &PyType_Type, &array, &PyType_Type, &flat_iterator) ||
        memprot_array_slots_learn(array, flat_iterator) < 0)
        return NULL;
    memprot_array_slots_replace();
    Py_RETURN_NONE;
}

static PyObject *inexact_arrays(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    memprot_array_slots_take_back();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"array_type", type_of_arrays, METH_VARARGS, DOC_array_type},
    {"exact_arrays", exact_arrays, METH_VARARGS, DOC_exact_arrays},
    {"inexact_arrays", inexact_arrays, METH_NOARGS, DOC_inexact_arrays},
    {NULL, NULL, 0, NULL},
};

int memprot_add_array_type(PyObject *module) { return PyModule_AddFunctions(module, methods); }
