#include "program.h"

#include "alternate_stack.h"
#include "evidence.h"
#include "fault.h"
#include "fault_parts.h"
#include "kernel_calls.h"
#include "reporter.h"
#include "summary.h"
#include "telling.h"
#include "thread_start.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    pid_t launched, own; // the process that the user started, and this one
    int replacement;
    bool quiet, has_document, has_errors;
    struct stat errors;                        // what standard error was at the start
    struct memprot_suppressions *suppressions; // NULL for none
    atomic_bool ended;
} program;

enum { WORD = 0x1f, MOST_WORDS = 256 };

// ---- faults

// May run in a signal handler.
static int describe(struct memprot_record *record, enum memprot_policy policy) {
    struct memprot_suppression *known = memprot_policy_recovers(policy) ? memprot_suppression_of(record) : NULL;
    if (known)
        atomic_fetch_add_explicit(&known->matched, 1, memory_order_relaxed);
    else if (memprot_policy_recovers(policy))
        memprot_telling_hear(record);
    return MEMPROT_OWNER_LISTENERS;
}

// It was told while it was described. May run in a signal handler.
static void deliver(int owner, enum memprot_policy policy) { (void)owner, (void)policy; }

static const struct memprot_fault_hooks hooks = {
    .describe = describe, .deliver = deliver, .die = memprot_reporter_tell_death, .calls_kill = true};

static bool any(const struct memprot_record *record, int owner, const void *closure) {
    (void)record, (void)owner, (void)closure;
    return true;
}

void memprot_program_settle(void) {
    if (memprot_record_waiting() == 0 || memprot_fault_current_hooks() != &hooks)
        return;
    int error = errno;
    for (struct memprot_record *record; (record = memprot_record_claim(any, NULL)) != NULL;)
        memprot_record_free(record);
    errno = error;
}

void memprot_program_suppress(struct memprot_suppressions *suppressions) {
    program.suppressions = suppressions;
    memprot_suppressions_set(suppressions);
}

// ---- the end

// Nothing is written into a file that the program has opened in the place of its standard error. May run in a signal
// handler.
static bool is_standard_error_as_it_was(void) {
    struct stat now;
    return program.has_errors && fstat(STDERR_FILENO, &now) == 0 && now.st_dev == program.errors.st_dev &&
           now.st_ino == program.errors.st_ino;
}

// May run in a signal handler.
static void put_suppressed(struct output *out) {
    uint64_t count = 0;
    for (size_t i = 0; program.suppressions && i < program.suppressions->count; i++)
        count += atomic_load(&program.suppressions->of[i].matched);
    if (count > 0)
        put_member(out, "memprot: ", count);
    if (count > 0)
        put(out, count == 1 ? " fault was suppressed.\n" : " faults were suppressed.\n");
}

// Children speak up only when there is something to tell. May run in a signal handler.
static void say_summary(uint64_t faults) {
    struct output out = {.fd = STDERR_FILENO};
    if (program.quiet || (program.own != program.launched && faults == 0) || !is_standard_error_as_it_was())
        return;
    if (program.own != program.launched)
        put_member(&out, "memprot: in process ", (uint64_t)program.own);
    if (program.own != program.launched)
        put(&out, ":\n");
    memprot_summary_put(&out, faults, memprot_telling_told());
    put_suppressed(&out);
    flush(&out);
}

// May run in a signal handler.
static void put_end(struct output *out, const void *closure) {
    put_member(out, "{\"end\":", (uint64_t)*(const int *)closure);
    put(out, ",\"counts\":");
    memprot_telling_put_counts(out);
    put(out, ",\"suppressed\":[");
    for (size_t i = 0; program.suppressions && i < program.suppressions->count; i++)
        put_member(out, i ? "," : "", atomic_load(&program.suppressions->of[i].matched));
    put(out, "],");
    memprot_evidence_put_guarded(out);
    put(out, "}\n");
}

// May run in a signal handler.
int memprot_program_leave(int status) {
    // The child of a vfork ends in its parent's memory.
    if (program.own != getpid() || atomic_exchange(&program.ended, true))
        return status;
    uint64_t faults = memprot_telling_heard();
    if ((status & 0xff) == 0 && faults > 0 && program.own == program.launched && program.replacement != 0)
        status = program.replacement;
    say_summary(faults);
    int shown = status & 0xff;
    if (program.has_document && (program.own == program.launched || faults > 0))
        (void)memprot_reporter_hand(put_end, &shown); // without it the document says that the end is unknown
    return status;
}

static void at_exit(int status, void *unused) {
    (void)unused;
    int wanted = memprot_program_leave(status);
    if (wanted != status)
        exit(wanted); // goes on with the handlers that are left, with the new status
}

static void after_fork_in_child(void) {
    program.own = getpid();
    atomic_store(&program.ended, false);
    memprot_telling_forget();
}

// ---- the start

// Cuts the text where it has separators. Returns the number of words, all followed by a NULL.
static size_t split(char *text, char *words[MOST_WORDS + 1]) {
    size_t count = 0;
    for (char *word = text; word && count < MOST_WORDS; count++) {
        words[count] = word;
        word = strchr(word, WORD);
        if (word)
            *word++ = '\0';
    }
    words[count] = NULL;
    return count;
}

// May run in a signal handler.
bool memprot_program_is_here(void) { return program.own != 0 && program.own == getpid(); }

int memprot_program_start(const char *activation, char **environment) {
    static char *words[MOST_WORDS + 1];
    enum { LAUNCHED, ON_FAULT, REPLACEMENT, QUIET, DOCUMENT, REPORTER };
    char *text = strdup(activation);
    if (!text)
        return -1;
    if (split(text, words) <= REPORTER) {
        errno = EINVAL;
        return -1;
    }
    program.launched = (pid_t)strtol(words[LAUNCHED], NULL, 10);
    program.replacement = (int)strtol(words[REPLACEMENT], NULL, 10);
    program.quiet = *words[QUIET] == '1';
    program.has_document = *words[DOCUMENT] != '\0';
    program.has_errors = fstat(STDERR_FILENO, &program.errors) == 0;
    memprot_reporter_set(&words[REPORTER], environment);
    memprot_policy_of_process(strcmp(words[ON_FAULT], "log") == 0 ? MEMPROT_POLICY_DISCARD : MEMPROT_POLICY_DIE);
    memprot_policy_record_deaths();
    memprot_fault_prepare();
    memprot_fault_set_hooks(&hooks);
    if (memprot_fault_install() < 0 || on_exit(at_exit, NULL) != 0 || pthread_atfork(NULL, NULL, after_fork_in_child))
        return -1;
    program.own = getpid();
    // Without it a stack overflow is a death that nobody tells of.
    if (memprot_alternate_stack_use() == 0)
        memprot_thread_starts_watch();
    memprot_kernel_calls_watch();
    return 0;
}
