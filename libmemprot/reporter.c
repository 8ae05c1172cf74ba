// A dying process can be trusted with system calls only: it writes down what it knows as JSON into a memory
// file and has a fresh process, the reporter, make sense of it. Meanwhile it stays as it is, so that the
// reporter can look at its mappings.
#include "reporter.h"

#include "evidence.h"
#include "exit.h"
#include "memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Set once, before the program starts; read in the handler.
static char **reporter_argv, **reporter_environment;
static int reporter_stderr = STDERR_FILENO;

enum { REPORTER_SECONDS = 20 };

void memprot_reporter_set(char **argv, char **environment) {
    reporter_environment = environment;
    reporter_argv = argv;
}

void memprot_reporter_write_to(int fd) { reporter_stderr = fd; }

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
        if (reporter_stderr != STDERR_FILENO)
            dup2(reporter_stderr, STDERR_FILENO); // when the program has closed it, its standard error has to do
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
bool memprot_reporter_hand(memprot_reporter_writer *write, const void *closure) {
    static struct output out;
    if (!reporter_argv)
        return false;
    out.fd = memprot_memory_file_open("memprot-crash", 0);
    if (out.fd < 0)
        return false;
    write(&out, closure);
    flush(&out);
    sigset_t child_signal, before;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, &before);
    bool told = lseek(out.fd, 0, SEEK_SET) == 0 && run_reporter(out.fd);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(out.fd);
    errno = 0; // whatever has failed, it was no lack of descriptors
    return told;
}

struct fault {
    const struct memprot_record *record;
    const ucontext_t *context;
};

// May run in a signal handler.
static void put_fault(struct output *out, const void *closure) {
    const struct fault *fault = closure;
    memprot_evidence_put(out, fault->record, fault->context);
}

// May run in a signal handler.
bool memprot_reporter_tell(const struct memprot_record *record, const ucontext_t *context) {
    return memprot_reporter_hand(put_fault, &(struct fault){record, context});
}

// May run in a signal handler.
void memprot_reporter_tell_death(const struct memprot_record *record, bool owned, const ucontext_t *context) {
    static struct output out = {.fd = STDERR_FILENO};
    if (!record)
        return;
    bool told = memprot_reporter_tell(record, context);
    if (!told && (errno == EMFILE || errno == ENFILE) && close(STDIN_FILENO) == 0)
        told = memprot_reporter_tell(record, context); // in a place that a dying process needs least
    if (told || (!owned && !reporter_argv))
        return;
    memprot_evidence_put_plainly(&out, record, owned);
    flush(&out);
    (void)memprot_exit_die(record->signal, NULL, 0); // what cannot be written cannot be told either
}
