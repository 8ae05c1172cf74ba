// A program that breaks its heap on command, as programs without Python do.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 48 };

// Not inlined and not seen through: the reports name functions and lines.
#define APART __attribute__((noinline, noclone))
static char *volatile block;
static volatile size_t size = SIZE;

static APART char *make_block(void) { return malloc(size); }

static APART void put(char *at, char what) {
    *(volatile char *)at = what;
    __asm__ volatile("" ::: "memory");
}

static APART char get(const char *at) {
    char byte = *(const volatile char *)at;
    __asm__ volatile("" ::: "memory");
    return byte;
}

static APART void drop(char *gone) {
    free(gone);
    __asm__ volatile("" ::: "memory");
}

static void *in_thread(void *unused) {
    put(block + SIZE, 1);
    return unused;
}

// The thread's first block is allocated while the C library holds a lock of the thread.
static void *ask_about_itself(void *unused) {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0)
        pthread_attr_destroy(&attributes);
    return unused;
}

static void run_thread(void *(*routine)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, routine, NULL) == 0)
        pthread_join(thread, NULL);
}

static sigjmp_buf back;

static void jump(int number, siginfo_t *info, void *context) {
    (void)info, (void)context;
    siglongjmp(back, number);
}

static void own_handler(void) {
    struct sigaction action = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO}, before, now;
    sigaction(SIGSEGV, &action, &before);
    sigaction(SIGSEGV, NULL, &now);
    printf("default %d, own %d, flags %x\n", before.sa_handler == SIG_DFL, now.sa_sigaction == jump,
           now.sa_flags & (SA_SIGINFO | SA_ONSTACK | SA_RESTART));
    if (vfork() == 0) { // in this very memory, and with handlers of its own
        signal(SIGSEGV, SIG_DFL);
        _exit(0);
    }
    for (int i = 0; i < 3; i++) {
        int caught = sigsetjmp(back, 1);
        if (!caught)
            put(NULL, 1);
        printf("caught %d\n", caught == SIGSEGV);
    }
    signal(SIGSEGV, SIG_IGN);
    raise(SIGSEGV);
    printf("ignored, %d\n", signal(SIGSEGV, SIG_DFL) == SIG_IGN);
}

static void handled_overflow(void) {
    struct sigaction action = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    int caught = sigsetjmp(back, 1);
    if (!caught)
        put(block + SIZE, 1);
    printf("caught %d\n", caught == SIGSEGV);
}

static int forks(void (*what)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        what();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("child %d %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    return 0;
}

static APART int descend(int depth) {
    volatile char room[256];
    room[depth % 256] = (char)depth;
    return descend(depth + 1) + room[depth % 256];
}

static void overflow(void) { put(block + SIZE, 1); }

static void overflow_often(void) {
    for (int i = 0; i < 5; i++) {
        char *other = make_block();
        put(other + SIZE, 1);
        free(other);
    }
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "nothing";
    block = make_block();
    memset(block, 'x', SIZE);
    puts("ready");
    fflush(stdout);
    if (!strcmp(what, "overflow"))
        overflow();
    else if (!strcmp(what, "overflow-often"))
        overflow_often();
    if (count > 3 && !strcmp(words[2], "--"))
        execvp(words[3], words + 3);
    else if (!strcmp(what, "underflow"))
        put(block - 1, 1);
    else if (!strcmp(what, "copy"))
        memcpy(make_block(), block, size + 8);
    else if (!strcmp(what, "length"))
        printf("%zu\n", strlen(block));
    else if (!strcmp(what, "read-call"))
        printf("%zd\n", read(open("/dev/zero", O_RDONLY), block, SIZE + 8));
    else if (!strcmp(what, "use-after-free"))
        drop(block), put(block, 1);
    else if (!strcmp(what, "double-free"))
        drop(block), drop(block);
    else if (!strcmp(what, "wild-free"))
        drop(block + 16);
    else if (!strcmp(what, "slack"))
        size = SIZE - 3, block = make_block(), put(block + SIZE - 3, 1), drop(block);
    else if (!strcmp(what, "null"))
        put(NULL, 1);
    else if (!strcmp(what, "descend"))
        return descend(0);
    else if (!strcmp(what, "own-handler"))
        own_handler();
    else if (!strcmp(what, "handled-overflow"))
        handled_overflow();
    else if (!strcmp(what, "fork"))
        return forks(overflow);
    else if (!strcmp(what, "exec"))
        execvp(words[2], words + 2);
    else if (!strcmp(what, "exit"))
        exit(atoi(words[2]));
    else if (!strcmp(what, "_exit"))
        _exit(atoi(words[2]));
    else if (!strcmp(what, "quick_exit"))
        quick_exit(atoi(words[2]));
    else if (!strcmp(what, "raise"))
        raise(atoi(words[2]));
    else if (!strcmp(what, "thread"))
        run_thread(in_thread);
    else if (!strcmp(what, "thread-attributes"))
        run_thread(ask_about_itself);
    puts("done");
    return 0;
}
