// A function that takes another's place and cannot be told from it: a builtin leaves no frame in tracebacks.
#include "binding.h"
#include "docstrings.h"

#include <string.h>

// Never raises: what a bystander does must not change what the function does.
static void call_bystander(PyObject *self, const char *which, PyObject *args, PyObject *kwargs) {
    PyObject *bystander = PyDict_GetItemString(PyModule_GetDict(self), which);
    if (bystander == NULL || bystander == Py_None)
        return;
    PyObject *result = PyObject_Call(bystander, args, kwargs);
    if (result == NULL)
        PyErr_WriteUnraisable(bystander);
    Py_XDECREF(result);
}

static PyObject *call(PyObject *self, PyObject *args, PyObject *kwargs) {
    call_bystander(self, "before", args, kwargs);
    PyObject *function = PyDict_GetItemString(PyModule_GetDict(self), "function");
    PyObject *result = PyObject_Call(function, args, kwargs);
    if (result != NULL)
        call_bystander(self, "after", args, kwargs);
    return result;
}

// The documentation as a C function has it: the text of the signature in front.
static PyObject *full_doc(PyObject *function, PyObject *name) {
    PyObject *signature = PyObject_GetAttrString(function, "__text_signature__");
    PyObject *doc = signature == NULL ? NULL : PyObject_GetAttrString(function, "__doc__");
    PyObject *result = NULL;
    if (doc != NULL && signature != Py_None)
        result = PyUnicode_FromFormat("%U%U\n--\n\n%V", name, signature, doc == Py_None ? NULL : doc, "");
    else if (doc != NULL)
        result = PyUnicode_FromFormat("%V", doc == Py_None ? NULL : doc, "");
    Py_XDECREF(signature);
    Py_XDECREF(doc);
    return result;
}

// Lives as long as the process, as the method tables of builtins do.
static PyMethodDef *new_method(PyObject *function) {
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    PyObject *doc = name == NULL ? NULL : full_doc(function, name);
    const char *name_text = doc == NULL ? NULL : PyUnicode_AsUTF8(name);
    const char *doc_text = name_text == NULL ? NULL : PyUnicode_AsUTF8(doc);
    PyMethodDef *method = NULL;
    if (doc_text != NULL) {
        size_t name_size = strlen(name_text) + 1;
        size_t doc_size = strlen(doc_text) + 1;
        method = PyMem_RawMalloc(sizeof *method + name_size + doc_size);
        if (method == NULL) {
            PyErr_NoMemory();
        } else {
            char *copies = (char *)(method + 1);
            method->ml_name = memcpy(copies, name_text, name_size);
            method->ml_doc = memcpy(copies + name_size, doc_text, doc_size);
            method->ml_meth = (PyCFunction)(void (*)(void))call;
            method->ml_flags = METH_VARARGS | METH_KEYWORDS;
        }
    }
    Py_XDECREF(name);
    Py_XDECREF(doc);
    return method;
}

// The function's self is a module of the same name, as that of every builtin function is: it pickles by its
// name.
static PyObject *new_self(PyObject *module_name, PyObject *function, PyObject *before, PyObject *after) {
    PyObject *self = PyModule_NewObject(module_name);
    if (self == NULL)
        return NULL;
    PyObject *dict = PyModule_GetDict(self);
    if (PyDict_SetItemString(dict, "function", function) < 0 || PyDict_SetItemString(dict, "before", before) < 0 ||
        PyDict_SetItemString(dict, "after", after) < 0)
        Py_CLEAR(self);
    return self;
}

static PyObject *interpose(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"function", "before", "after", NULL};
    PyObject *function;
    PyObject *before = Py_None;
    PyObject *after = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|OO:interpose", names, &PyCFunction_Type, &function, &before,
                                     &after))
        return NULL;
    PyObject *module_name = PyObject_GetAttrString(function, "__module__");
    if (module_name == NULL)
        return NULL;
    PyObject *self = new_self(module_name, function, before, after);
    PyMethodDef *method = self == NULL ? NULL : new_method(function);
    PyObject *result = method == NULL ? NULL : PyCFunction_NewEx(method, self, module_name);
    Py_XDECREF(self);
    Py_DECREF(module_name);
    return result;
}

static PyMethodDef methods[] = {
    {"interpose", (PyCFunction)(void (*)(void))interpose, METH_VARARGS | METH_KEYWORDS, DOC_interpose},
    {NULL, NULL, 0, NULL},
};

int memprot_add_interpose(PyObject *module) { return PyModule_AddFunctions(module, methods); }
