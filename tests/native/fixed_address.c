// A program that contains Python: `fixed_address PYTHON CODE` runs code as that interpreter would. Built for a fixed
// address, it offers its own entry of the linkage table as the address of read, because it asks for that address.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <unistd.h>

static ssize_t (*volatile address_of_read)(int, void *, size_t);

static PyObject *fixed_address_read(PyObject *Py_UNUSED(self), PyObject *arguments) {
    int fd;
    unsigned long long address, size;
    if (!PyArg_ParseTuple(arguments, "iKK", &fd, &address, &size))
        return NULL;
    ssize_t first = read(fd, (void *)address, size), second = address_of_read(fd, (void *)address, size);
    return Py_BuildValue("(nn)", first, second);
}

static PyMethodDef methods[] = {
    {"read", fixed_address_read, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "fixed_address", .m_methods = methods};

static PyObject *create(void) { return PyModule_Create(&definition); }

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    address_of_read = read;
    PyImport_AppendInittab("fixed_address", create);
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    if (PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name, arguments[1])) ||
        PyStatus_Exception(Py_InitializeFromConfig(&config)))
        return 3;
    PyConfig_Clear(&config);
    int failed = PyRun_SimpleString(arguments[2]);
    return Py_FinalizeEx() < 0 || failed;
}
