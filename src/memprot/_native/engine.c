// Installing the fault engine, and what the process wants done with faults.
#include "engine.h"
#include "docstrings.h"

#include "delivery.h"

#include "epoch.h"
#include "imports.h"
#include "kernel_calls.h"
#include "origin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_size_t users; // changed under the lock
static size_t scopes;       // under the lock

// Inside an epoch, so that nobody forks meanwhile: the child could neither take the lock nor trust what it guards.
static int take_lock(void) {
    int token = memprot_epoch_enter();
    pthread_mutex_lock(&lock);
    return token;
}

static void give_lock(int token) {
    pthread_mutex_unlock(&lock);
    memprot_epoch_leave(token);
}

void memprot_engine_watch_calls(void) {
    if (memprot_kernel_calls_are_watched())
        return;
    // The loader's lock may be held by a thread that waits for the interpreter.
    Py_BEGIN_ALLOW_THREADS;
    memprot_kernel_calls_watch();
    Py_END_ALLOW_THREADS;
}

static int use(bool look_above) {
    int token = take_lock();
    int failed = look_above || atomic_load(&users) == 0 ? memprot_fault_install() : 0;
    if (!failed)
        atomic_fetch_add(&users, 1);
    give_lock(token);
    if (failed)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        memprot_engine_watch_calls();
    return failed;
}

int memprot_engine_acquire(void) { return use(true); }

int memprot_engine_hold(void) { return use(false); }

void memprot_engine_release(void) {
    int token = take_lock();
    // When taking the handlers down fails they stay, and pass on what is not theirs.
    if (atomic_fetch_sub(&users, 1) == 1)
        (void)memprot_fault_uninstall(scopes > 0);
    give_lock(token);
}

int memprot_engine_look(void) {
    if (atomic_load_explicit(&users, memory_order_acquire) == 0)
        return 0;
    int token = take_lock();
    int failed = atomic_load(&users) > 0 ? memprot_fault_install() : 0;
    give_lock(token);
    if (failed)
        PyErr_SetFromErrno(PyExc_OSError);
    return failed;
}

int memprot_engine_enter_scope(void) {
    int token = take_lock();
    int failed = atomic_load(&users) > 0 ? memprot_fault_install() : memprot_fault_install_for_files();
    if (!failed)
        scopes++;
    give_lock(token);
    if (failed)
        PyErr_SetFromErrno(PyExc_OSError);
    return failed;
}

void memprot_engine_leave_scope(void) {
    int token = take_lock();
    if (--scopes == 0 && atomic_load(&users) == 0)
        (void)memprot_fault_uninstall_for_files();
    give_lock(token);
}

static PyObject *fault_acquire(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (memprot_engine_acquire() < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *fault_release(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    memprot_engine_release();
    Py_RETURN_NONE;
}

static PyObject *fault_reinstall(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (memprot_engine_look() < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *fault_policy(PyObject *module, PyObject *policy) {
    (void)module;
    long value = PyLong_AsLong(policy);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    if (value < MEMPROT_POLICY_DIE || value >= MEMPROT_POLICY_NONE)
        return PyErr_Format(PyExc_ValueError, "%ld is no fault policy; they are 0 to %d", value, MEMPROT_POLICY_ASK);
    memprot_record_settle(memprot_fault_thread());
    memprot_policy_of_process((enum memprot_policy)value);
    memprot_engine_watch_calls();
    Py_RETURN_NONE;
}

// fault_die(signal): as if nobody had ever handled it
static PyObject *fault_die(PyObject *module, PyObject *number) {
    (void)module;
    int signal = (int)PyLong_AsLong(number);
    if (PyErr_Occurred())
        return NULL;
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, signal);
    if (sigaction(signal, &action, NULL) < 0 || pthread_sigmask(SIG_UNBLOCK, &signals, NULL) != 0 || raise(signal) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"fault_die", fault_die, METH_O, DOC_fault_die},
    {"fault_acquire", fault_acquire, METH_NOARGS, DOC_fault_acquire},
    {"fault_release", fault_release, METH_NOARGS, DOC_fault_release},
    {"fault_reinstall", fault_reinstall, METH_NOARGS, DOC_fault_reinstall},
    {"fault_policy", fault_policy, METH_O, DOC_fault_policy},
    {NULL, NULL, 0, NULL},
};

// After the interpreter's end a fault is nobody's exception.
static void forget_python(void) {
    memprot_origin_set_python(NULL);
    memprot_fault_set_hooks(NULL);
    memprot_policy_of_process(MEMPROT_POLICY_DIE);
}

int memprot_add_engine(PyObject *module) {
    memprot_imports_leave_alone((uintptr_t)memprot_add_engine);
    memprot_fault_prepare();
    memprot_fault_set_hooks(&memprot_delivery_hooks);
    if (Py_AtExit(forget_python) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "too many exit functions are registered for memprot to add its own");
        return -1;
    }
    return PyModule_AddFunctions(module, methods);
}
