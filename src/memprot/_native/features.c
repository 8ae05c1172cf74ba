// The trials of kernel and CPU features, as tuples.
#include "binding.h"
#include "docstrings.h"

#include "feature.h"

static PyObject *trial_as_tuple(const struct memprot_feature *feature, const struct memprot_trial *trial) {
    return Py_BuildValue("(sNizil)", feature->name, PyBool_FromLong(trial->available), trial->error, trial->step,
                         trial->signal, trial->value);
}

static PyObject *trials_as_tuple(const struct memprot_trial *trials) {
    PyObject *result = PyTuple_New((Py_ssize_t)memprot_feature_count);
    if (result == NULL)
        return NULL;
    for (size_t i = 0; i < memprot_feature_count; i++) {
        PyObject *trial = trial_as_tuple(&memprot_features[i], &trials[i]);
        if (trial == NULL) {
            Py_DECREF(result);
            return NULL;
        }
        PyTuple_SET_ITEM(result, (Py_ssize_t)i, trial);
    }
    return result;
}

static PyObject *try_features(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    struct memprot_trial *trials = PyMem_RawCalloc(memprot_feature_count, sizeof *trials);
    if (trials == NULL)
        return PyErr_NoMemory();
    int status;
    Py_BEGIN_ALLOW_THREADS status = memprot_try_features(trials);
    Py_END_ALLOW_THREADS PyObject *result = status < 0 ? PyErr_SetFromErrno(PyExc_OSError) : trials_as_tuple(trials);
    PyMem_RawFree(trials);
    return result;
}

static PyMethodDef methods[] = {
    {"try_features", try_features, METH_NOARGS, DOC_try_features},
    {NULL, NULL, 0, NULL},
};

int memprot_add_features(PyObject *module) { return PyModule_AddFunctions(module, methods); }
