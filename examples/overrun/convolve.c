// A convolution as an extension module, with an off-by-one at the border: it writes one element too many.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

// The input goes on beyond its ends with its first and last value.
static double value_at(const double *input, Py_ssize_t length, Py_ssize_t i) {
    return input[i < 0 ? 0 : i >= length ? length - 1 : i];
}

static void convolve(const double *input, Py_ssize_t length, const double *kernel, Py_ssize_t taps, double *output) {
    for (Py_ssize_t i = 0; i <= length; i++) { // The bug: i < length was meant.
        double sum = 0.0;
        for (Py_ssize_t k = 0; k < taps; k++)
            sum += kernel[k] * value_at(input, length, i + k - taps / 2);
        output[i] = sum;
    }
}

// convolve(input, kernel, output): three buffers of doubles, output as long as input.
static PyObject *convolve_method(PyObject *Py_UNUSED(module), PyObject *arguments) {
    Py_buffer input, kernel, output;
    if (!PyArg_ParseTuple(arguments, "y*y*w*", &input, &kernel, &output))
        return NULL;
    const Py_ssize_t item = sizeof(double);
    int matching = output.len == input.len && input.len % item == 0 && kernel.len % item == 0;
    if (matching) {
        // Other threads run meanwhile: at the bug no Python code is to be seen in this one but its caller's.
        Py_BEGIN_ALLOW_THREADS;
        convolve(input.buf, input.len / item, kernel.buf, kernel.len / item, output.buf);
        Py_END_ALLOW_THREADS;
    } else {
        PyErr_SetString(PyExc_ValueError, "input and output must be doubles and of one length");
    }
    PyBuffer_Release(&input);
    PyBuffer_Release(&kernel);
    PyBuffer_Release(&output);
    return matching ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"convolve", convolve_method, METH_VARARGS, "Convolve input with kernel into output."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "convolve", .m_methods = methods};

PyMODINIT_FUNC PyInit_convolve(void) { return PyModuleDef_Init(&definition); }
