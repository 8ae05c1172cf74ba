// A dying process can be trusted with system calls only: it writes down what it knows as JSON into a memory
// file and has a fresh process, the reporter, make sense of it. Meanwhile it stays as it is, so that the
// reporter can look at its mappings.
#include "crash.h"
#include "describe.h"
#include "docstrings.h"
#include "output.h"

#include "alternate_stack.h"
#include "exit.h"
#include "guard.h"
#include "memory_file.h"
#include "thread_start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Set once, before the program starts; read in the handler.
static char **reporter_argv, **reporter_environment;

enum { REPORTER_SECONDS = 20 };

// ---- what is known

// The next of the frames in a record's text. May run in a signal handler.
static const char *next_frame(const char *at, int32_t *line, const char **file, const char **function) {
    memcpy(line, at, sizeof *line);
    *file = at + sizeof *line;
    *function = *file + strlen(*file) + 1;
    return *function + strlen(*function) + 1;
}

// [[file, line, function], ...] May run in a signal handler.
static void put_frames(struct output *out, const struct memprot_record *record) {
    const char *at = record->text, *end = at + record->text_length, *file, *function;
    int32_t line;
    put_byte(out, '[');
    while (at < end) {
        if (at != record->text)
            put_byte(out, ',');
        at = next_frame(at, &line, &file, &function);
        put_byte(out, '[');
        put_string(out, file);
        put_member(out, ",", (uint64_t)(line < 0 ? 0 : line));
        put_byte(out, ',');
        put_string(out, function);
        put_byte(out, ']');
    }
    put_byte(out, ']');
}

// May run in a signal handler.
static void put_registers(struct output *out, const ucontext_t *context) {
#if defined(__x86_64__)
    static const struct {
        const char *name;
        int index;
    } registers[] = {
        {"rip", REG_RIP}, {"rsp", REG_RSP}, {"rbp", REG_RBP}, {"rax", REG_RAX}, {"rbx", REG_RBX}, {"rcx", REG_RCX},
        {"rdx", REG_RDX}, {"rsi", REG_RSI}, {"rdi", REG_RDI}, {"r8", REG_R8},   {"r9", REG_R9},   {"r10", REG_R10},
        {"r11", REG_R11}, {"r12", REG_R12}, {"r13", REG_R13}, {"r14", REG_R14}, {"r15", REG_R15}, {"eflags", REG_EFL},
    };
    for (size_t i = 0; i < sizeof registers / sizeof *registers; i++) {
        put(out, i ? ",\"" : "\"");
        put(out, registers[i].name);
        put(out, "\":");
        put_number(out, (uint64_t)context->uc_mcontext.gregs[registers[i].index], 10);
    }
#elif defined(__aarch64__)
    put_member(out, "\"pc\":", context->uc_mcontext.pc);
    put_member(out, ",\"sp\":", context->uc_mcontext.sp);
    for (unsigned i = 0; i < 31; i++) {
        put_member(out, ",\"x", i);
        put_member(out, "\":", context->uc_mcontext.regs[i]);
    }
#endif
}

// The stacks of all Python threads. The interpreter's list is walked without its lock, which this very thread
// may hold; a fault on the way goes to the next handler. May run in a signal handler.
static void put_threads(struct output *out) {
    static struct memprot_record scratch;
    bool first = true;
    for (PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Main()); thread;
         thread = thread->next) {
        if (!memprot_top_frame(thread))
            continue;
        scratch.text_length = 0;
        memprot_describe_thread(&scratch, thread);
        put_member(out, first ? "{\"id\":" : ",{\"id\":", thread->native_thread_id);
        put(out, ",\"python\":");
        put_frames(out, &scratch);
        put_byte(out, '}');
        first = false;
    }
}

// May run in a signal handler.
static void put_origin(struct output *out, const char *name, const struct memprot_origin *origin) {
    static struct memprot_record scratch;
    memprot_describe_stack(&scratch, origin->python);
    put(out, name);
    put_frames(out, &scratch);
}

// May run in a signal handler.
static void put_block(struct output *out, const struct memprot_block *block) {
    put_member(out, ",\"block\":[", block->address);
    put_member(out, ",", block->size);
    put(out, block->is_freed ? ",true" : ",false");
    put_member(out, ",", block->pooled ? block->owner : MEMPROT_GUARD_OWNERS);
    put_byte(out, ']');
    put_origin(out, ",\"allocated\":", &block->allocated);
    put_origin(out, ",\"freed\":", &block->freed);
}

// For each owner the numbers that guard_statistics gives, in its order. May run in a signal handler.
static void put_guarded(struct output *out) {
    for (unsigned owner = 0; owner < MEMPROT_GUARD_OWNERS; owner++) {
        struct memprot_guard_statistics now;
        memprot_guard_peek_statistics((enum memprot_guard_owner)owner, &now);
        struct memprot_guard_count counts[MEMPROT_GUARD_COUNTS];
        memprot_guard_counts(&now, counts);
        put(out, owner ? ",[" : "[");
        for (size_t i = 0; i < MEMPROT_GUARD_COUNTS; i++)
            put_member(out, i ? "," : "", counts[i].value);
        put_byte(out, ']');
    }
}

// May run in a signal handler.
static void put_record(struct output *out, const struct memprot_record *record, const ucontext_t *context) {
    put_member(out, "{\"signal\":", (uint64_t)record->signal);
    put_member(out, ",\"code\":", (uint64_t)record->code);
    put(out, ",\"key\":");
    if (record->key == MEMPROT_NO_KEY)
        put(out, "null");
    else
        put_number(out, (uint64_t)record->key, 10);
    put_member(out, ",\"access\":", record->access);
    put_member(out, ",\"address\":", record->address);
    put_member(out, ",\"size\":", record->size);
    put_member(out, ",\"guard\":", record->guard);
    if (record->stack_overflow)
        put_member(out, ",\"depth\":", record->depth);
    put_member(out, ",\"thread\":", (uint64_t)record->thread);
    put(out, ",\"name\":");
    put_string(out, record->name);
    put_member(out, ",\"finding\":", record->finding);
    if (record->block.address)
        put_block(out, &record->block);
    put(out, ",\"instructions\":[");
    for (uint32_t i = 0; i < record->pcs; i++) {
        if (i)
            put_byte(out, ',');
        put_number(out, record->pc[i], 10);
    }
    put(out, "],\"guarded\":[");
    put_guarded(out);
    put(out, "],\"python\":");
    if (record->interpreted)
        put_frames(out, record);
    else
        put(out, "null");
    put_bytes(out, ",\"machine_code\":", record->instruction, record->instruction_size);
    put_bytes(out, ",\"value\":", record->value, record->value_size);
    put_member(out, ",\"time\":", record->time);
    put(out, ",\"registers\":{");
    if (context)
        put_registers(out, context);
    put(out, "},\"threads\":[");
    put_threads(out);
    put(out, "]}\n");
    flush(out);
}

// May run in a signal handler.
static void put_plainly(struct output *out, const struct memprot_record *record, bool owned) {
    static const char *const accesses[] = {"read", "write", "execution"};
    const char *file, *function;
    int32_t line;
    static const char *const findings[] = {"", "second free", "free", "overwriting"};
    put(out, "memprot: fatal ");
    put(out, record->finding ? findings[record->finding] : accesses[record->access]);
    if (record->size)
        put_member(out, " of ", record->size);
    put(out, record->size == 1 ? " byte at " : record->size ? " bytes at " : " at ");
    put_hex(out, record->address);
    if (record->block.address) {
        put_member(out,
                   record->finding            ? ", of or beside a block of "
                   : record->block.is_freed ? ", in or beside a freed block of "
                   : record->guard          ? ", in the guard of a block of "
                                            : ", in a block of ",
                   record->block.size);
        put(out, " bytes at ");
        put_hex(out, record->block.address);
    } else {
        if (record->key != MEMPROT_NO_KEY)
            put_member(out, ", which protection key ", (uint64_t)record->key);
        put(out, record->key != MEMPROT_NO_KEY ? " forbids"
                 : record->guard               ? ", in a guard"
                 : owned                       ? ", on memory whose protection forbids it"
                                               : "");
    }
    put_byte(out, '\n');
    for (const char *at = record->text, *end = at + record->text_length; at < end;) {
        at = next_frame(at, &line, &file, &function);
        put(out, "  File \"");
        put(out, file);
        put_member(out, "\", line ", (uint64_t)(line < 0 ? 0 : line));
        put(out, " in ");
        put(out, function);
        put_byte(out, '\n');
    }
    flush(out);
}

// ---- the reporter

// Limits that the program set itself are no limits of the reporter. Runs in a forked child.
static void lift_limits(void) {
    static const int resources[] = {RLIMIT_AS, RLIMIT_DATA, RLIMIT_NOFILE};
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        struct rlimit limit;
        if (getrlimit(resources[i], &limit) == 0 && limit.rlim_cur != limit.rlim_max) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit(resources[i], &limit); // when it fails, the reporter has to do with what there is
        }
    }
}

// May run in a signal handler.
static bool run_reporter(int fd) {
    pid_t child = vfork();
    if (child == 0) {
        lift_limits();
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (fd == STDIN_FILENO ? fcntl(fd, F_SETFD, 0) == 0 : dup2(fd, STDIN_FILENO) >= 0)
            execve(reporter_argv[0], reporter_argv, reporter_environment);
        _exit(127);
    }
    if (child < 0)
        return false;
    struct timespec moment = {.tv_nsec = 2000000};
    for (int waited = 0; waited < REPORTER_SECONDS * 500; waited++) {
        int status = 0;
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (ended < 0 && errno != EINTR)
            return errno == ECHILD; // the program ignores its children, so its end is all there is to know
        nanosleep(&moment, NULL);
    }
    kill(child, SIGKILL);
    return false;
}

// May run in a signal handler.
static bool report(const struct memprot_record *record, const ucontext_t *context) {
    static struct output out;
    out.fd = memprot_memory_file_open("memprot-crash", 0);
    if (out.fd < 0 && (errno == EMFILE || errno == ENFILE) && close(STDIN_FILENO) == 0)
        out.fd = memprot_memory_file_open("memprot-crash", 0); // in a place that a dying process needs least
    if (out.fd < 0)
        return false;
    put_record(&out, record, context);
    sigset_t child_signal, before;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, &before);
    bool told = lseek(out.fd, 0, SEEK_SET) == 0 && run_reporter(out.fd);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(out.fd);
    return told;
}

// May run in a signal handler.
void memprot_crash(const struct memprot_record *record, bool owned, const ucontext_t *context) {
    static struct output out = {.fd = STDERR_FILENO};
    if (!record)
        return;
    bool told = reporter_argv && report(record, context);
    if (told || (!owned && !reporter_argv))
        return;
    put_plainly(&out, record, owned);
    (void)memprot_exit_die(record->signal, NULL, 0); // what cannot be written cannot be told either
}

// ---- naming the reporter

static char **copy_strings(PyObject *sequence) {
    PyObject *list = PySequence_Fast(sequence, "a list of bytes is needed");
    if (!list)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
    char **strings = PyMem_RawCalloc((size_t)count + 1, sizeof *strings);
    for (Py_ssize_t i = 0; strings && i < count; i++) {
        char *bytes = PyBytes_AsString(PySequence_Fast_GET_ITEM(list, i));
        strings[i] = bytes ? strdup(bytes) : NULL;
        if (!strings[i]) {
            while (i > 0)
                free(strings[--i]);
            PyMem_RawFree(strings);
            strings = NULL;
        }
    }
    Py_DECREF(list);
    if (!strings && !PyErr_Occurred())
        PyErr_NoMemory();
    return strings;
}

// set_crash_reporter(argv, environment); they stay for good.
static PyObject *set_crash_reporter(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *argv, *environment;
    if (!PyArg_ParseTuple(args, "OO:set_crash_reporter", &argv, &environment))
        return NULL;
    char **environment_strings = copy_strings(environment);
    char **argv_strings = environment_strings ? copy_strings(argv) : NULL;
    if (!argv_strings)
        return NULL;
    reporter_environment = environment_strings;
    reporter_argv = argv_strings;
    Py_RETURN_NONE;
}

// use_alternate_stacks(): so that a handler has room when the thread's own stack is what ran out.
static PyObject *use_alternate_stacks(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (memprot_alternate_stack_use() < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    memprot_thread_starts_watch();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_crash_reporter", set_crash_reporter, METH_VARARGS, DOC_set_crash_reporter},
    {"use_alternate_stacks", use_alternate_stacks, METH_NOARGS, DOC_use_alternate_stacks},
    {NULL, NULL, 0, NULL},
};

int memprot_add_crash(PyObject *module) { return PyModule_AddFunctions(module, methods); }
