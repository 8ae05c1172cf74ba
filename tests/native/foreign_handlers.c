// A library that takes SIGSEGV and SIGBUS for itself, in the ways real ones do: it has a page that may not be written,
// and recovers from writes to it. It knows nothing of memprot.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum kind { COUNTS, UNPROTECTS, JUMPS, SKIPS, CHAINS, WITHDRAWS, DIES };

static struct library {
    enum kind kind;
    struct sigaction predecessor;
    volatile unsigned long calls, sent;
    uintptr_t last_address;
} libraries[2];

static uintptr_t page;
static size_t page_size;
static _Thread_local sigjmp_buf before_write;
static _Thread_local volatile sig_atomic_t may_jump;

static struct library *library_of(int signal) { return &libraries[signal == SIGBUS]; }

// The instruction that writes is two bytes long: mov %al, (%rdi).
__attribute__((noinline, noclone)) static void write_byte(uintptr_t address) {
#if defined(__x86_64__)
    __asm__ volatile("movb %%al, (%%rdi)" : : "D"(address), "a"(7) : "memory");
#else
    *(volatile char *)address = 7;
#endif
}

static void skip_write(ucontext_t *context) {
#if defined(__x86_64__)
    context->uc_mcontext.gregs[REG_RIP] += 2;
#else
    context->uc_mcontext.pc += 4;
#endif
}

static void ask_predecessor(struct library *library, int signal, siginfo_t *info, void *context) {
    const struct sigaction *to = &library->predecessor;
    if (to->sa_flags & SA_SIGINFO) {
        to->sa_sigaction(signal, info, context); // at the end, so that the compiler makes it a jump
    } else if (to->sa_handler == SIG_DFL) {
        sigaction(signal, to, NULL);
    } else if (to->sa_handler != SIG_IGN) {
        to->sa_handler(signal);
    }
}

static void answer(int signal, siginfo_t *info, void *context) {
    struct library *library = library_of(signal);
    library->calls++;
    library->sent += info && info->si_code <= 0;
    library->last_address = info ? (uintptr_t)info->si_addr : 0;
    bool own = !info || (info->si_code > 0 && library->last_address - page < page_size);
    if (library->kind == UNPROTECTS && own) {
        mprotect((void *)page, page_size, PROT_READ | PROT_WRITE);
    } else if (library->kind == SKIPS && own && context) {
        skip_write(context);
    } else if (library->kind == JUMPS && may_jump) {
        may_jump = 0;
        siglongjmp(before_write, 1);
    } else if (library->kind == WITHDRAWS) {
        sigaction(signal, &library->predecessor, NULL);
    } else if (library->kind == DIES) {
        sigaction(signal, &library->predecessor, NULL);
        raise(signal);
    } else if (library->kind != COUNTS && info && (library->kind != JUMPS || info->si_code > 0)) {
        ask_predecessor(library, signal, info, context);
    }
}

static void with_details(int signal, siginfo_t *info, void *context) { answer(signal, info, context); }

static void without_details(int signal) { answer(signal, NULL, NULL); }

// install(signal, kind, flags)
static PyObject *install(PyObject *Py_UNUSED(self), PyObject *arguments) {
    int signal, kind;
    unsigned flags; // SA_RESETHAND is the highest bit
    if (!PyArg_ParseTuple(arguments, "iiI", &signal, &kind, &flags))
        return NULL;
    struct library *library = library_of(signal);
    library->kind = (enum kind)kind;
    struct sigaction action = {.sa_flags = (int)flags};
    if (flags & SA_SIGINFO)
        action.sa_sigaction = with_details;
    else
        action.sa_handler = without_details;
    if (sigaction(signal, &action, &library->predecessor) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

// install_old_style(signal, kind): with signal(3).
static PyObject *install_old_style(PyObject *Py_UNUSED(self), PyObject *arguments) {
    int number, kind;
    if (!PyArg_ParseTuple(arguments, "ii", &number, &kind))
        return NULL;
    library_of(number)->kind = (enum kind)kind;
    sigaction(number, NULL, &library_of(number)->predecessor);
    if (signal(number, without_details) == SIG_ERR)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

// remove(signal): puts the predecessor back.
static PyObject *put_back(PyObject *Py_UNUSED(self), PyObject *number) {
    int signal = (int)PyLong_AsLong(number);
    if (PyErr_Occurred())
        return NULL;
    if (sigaction(signal, &library_of(signal)->predecessor, NULL) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

// on_top(signal) -> whether this library's handler is the one the kernel calls
static PyObject *on_top(PyObject *Py_UNUSED(self), PyObject *number) {
    struct sigaction current;
    if (sigaction((int)PyLong_AsLong(number), NULL, &current) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    bool ours =
        current.sa_flags & SA_SIGINFO ? current.sa_sigaction == with_details : current.sa_handler == without_details;
    return PyBool_FromLong(ours);
}

// calls(signal) -> (how often the handler was called, how often for a signal that was sent)
static PyObject *calls(PyObject *Py_UNUSED(self), PyObject *number) {
    struct library *library = library_of((int)PyLong_AsLong(number));
    return Py_BuildValue("kk", library->calls, library->sent);
}

// use(): writes to the library's own page, which may not be written -> whether the handler has left by siglongjmp
static PyObject *use(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    mprotect((void *)page, page_size, PROT_READ);
    if (sigsetjmp(before_write, 1) != 0)
        Py_RETURN_TRUE;
    may_jump = libraries[0].kind == JUMPS;
    write_byte(page);
    may_jump = 0;
    Py_RETURN_FALSE;
}

// leave(count): waits for signals that are sent; the handler leaves each time by siglongjmp
static PyObject *leave(PyObject *Py_UNUSED(self), PyObject *count) {
    volatile long left = PyLong_AsLong(count);
    if (PyErr_Occurred())
        return NULL;
    sigsetjmp(before_write, 1);
    may_jump = 0;
    if (left-- <= 0)
        Py_RETURN_NONE;
    may_jump = 1;
    for (;;)
        pause();
}

// storm(signal, count): sent to this process by a child process, without a pause between them
static PyObject *storm(PyObject *Py_UNUSED(self), PyObject *arguments) {
    int signal, count;
    if (!PyArg_ParseTuple(arguments, "ii", &signal, &count))
        return NULL;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        while (count-- > 0 && getppid() == parent)
            kill(parent, signal);
        _exit(0);
    }
    return PyLong_FromLong(child);
}

// send(thread, signal, count): to one thread of this process, without a pause and without the interpreter
static PyObject *send(PyObject *Py_UNUSED(self), PyObject *arguments) {
    int thread, signal, count;
    if (!PyArg_ParseTuple(arguments, "iii", &thread, &signal, &count))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    while (count-- > 0)
        tgkill(getpid(), thread, signal);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install", install, METH_VARARGS, NULL}, {"install_old_style", install_old_style, METH_VARARGS, NULL},
    {"put_back", put_back, METH_O, NULL},     {"on_top", on_top, METH_O, NULL},
    {"calls", calls, METH_O, NULL},           {"use", use, METH_NOARGS, NULL},
    {"leave", leave, METH_O, NULL},           {"storm", storm, METH_VARARGS, NULL},
    {"send", send, METH_VARARGS, NULL},       {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "foreign_handlers", .m_size = -1,
                                 .m_methods = methods};

PyMODINIT_FUNC PyInit_foreign_handlers(void) {
    PyObject *module = PyModule_Create(&definition);
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    page = (uintptr_t)mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!module || (void *)page == MAP_FAILED || PyModule_AddIntMacro(module, COUNTS) < 0 ||
        PyModule_AddIntMacro(module, UNPROTECTS) < 0 || PyModule_AddIntMacro(module, JUMPS) < 0 ||
        PyModule_AddIntMacro(module, SKIPS) < 0 || PyModule_AddIntMacro(module, CHAINS) < 0 ||
        PyModule_AddIntMacro(module, WITHDRAWS) < 0 || PyModule_AddIntMacro(module, DIES) < 0 ||
        PyModule_AddIntMacro(module, SA_SIGINFO) < 0 || PyModule_AddIntMacro(module, SA_ONSTACK) < 0 ||
        PyModule_AddIntMacro(module, SA_RESTART) < 0 || PyModule_AddIntMacro(module, SA_NODEFER) < 0 ||
        PyModule_AddIntConstant(module, "SA_RESETHAND", (long)(unsigned)SA_RESETHAND) < 0)
        return NULL;
    return module;
}
