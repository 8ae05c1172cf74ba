// What malloc(3) and its relatives promise, checked one word of the command line at a time. It passes with any good
// allocator. With "guarded" as its second word each block has to be one that memprot guards, too.
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, THREADS = 8, ROUNDS = 2000, FORKS = 60 };

static size_t (*guard_size)(const void *block);

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #condition, errno);                                  \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

// Where there are guards, the block ends right before one.
static void check_block(void *block, size_t size) {
    CHECK(block);
    CHECK(malloc_usable_size(block) >= size);
    memset(block, 7, size);
    if (guard_size)
        CHECK(guard_size(block) == (size ? size : 1));
}

static size_t volatile huge = SIZE_MAX; // not known to the compiler

static void test_malloc(void) {
    for (size_t size = 0; size < 3 * PAGE; size += size < 70 ? 1 : 509) {
        char *block = malloc(size);
        check_block(block, size);
        CHECK((uintptr_t)block % 16 == 0);
        free(block);
    }
    char *one = malloc(0), *other = malloc(0);
    CHECK(one && other && one != other);
    free(one);
    free(other);
    free(NULL);
    errno = 0;
    CHECK(!malloc(huge) && errno == ENOMEM);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void test_calloc(void) {
    for (int round = 0; round < 3; round++) {
        char *block = calloc(300, 7);
        for (size_t i = 0; i < 2100; i++)
            CHECK(block[i] == 0);
        check_block(block, 2100);
        free(block);
    }
    errno = 0;
    CHECK(!calloc(huge / 2, 3) && errno == ENOMEM);
    void *nothing = calloc(0, 5);
    CHECK(nothing);
    free(nothing);
}

static void test_realloc(void) {
    unsigned char *block = realloc(NULL, 10);
    check_block(block, 10);
    for (size_t size = 20; size < 100000; size *= 3) {
        size_t before = size / 3 < 10 ? 10 : size / 3;
        block = realloc(block, size);
        for (size_t i = 0; i < before && i < size; i++)
            CHECK(block[i] == 7);
        check_block(block, size);
    }
    block = realloc(block, 3);
    CHECK(block[2] == 7);
    check_block(block, 3);
    errno = 0;
    CHECK(!realloc(block, huge) && errno == ENOMEM);
    CHECK(block[2] == 7); // it is as it was
    CHECK(!realloc(block, 0));
    block = reallocarray(NULL, 3, 5);
    check_block(block, 15);
    errno = 0;
    CHECK(!reallocarray(block, huge / 2, 3) && errno == ENOMEM);
    free(block);
}

static void test_aligned(void) {
    for (size_t align = sizeof(void *); align <= PAGE; align *= 2) {
        void *block = NULL;
        CHECK(posix_memalign(&block, align, 100) == 0 && (uintptr_t)block % align == 0);
        check_block(block, 100);
        block = realloc(block, 200);
        CHECK(((char *)block)[99] == 7);
        free(block);
        CHECK((uintptr_t)(block = memalign(align, 33)) % align == 0);
        check_block(block, 33);
        free(block);
        CHECK((uintptr_t)(block = aligned_alloc(align, align)) % align == 0);
        check_block(block, align);
        free(block);
    }
    void *block = (void *)1;
    errno = 0;
    CHECK(posix_memalign(&block, 24, 1) == EINVAL && block == (void *)1 && errno == 0);
    CHECK(posix_memalign(&block, 2, 1) == EINVAL && block == (void *)1 && errno == 0);
    CHECK(posix_memalign(&block, 16, huge) == ENOMEM);
    CHECK(posix_memalign(&block, 1 << 21, 10) == 0 && (uintptr_t)block % (1 << 21) == 0); // beyond what can be guarded
    free(block);
    CHECK((uintptr_t)(block = valloc(5)) % PAGE == 0);
    check_block(block, 5);
    free(block);
    CHECK((uintptr_t)(block = pvalloc(5)) % PAGE == 0);
    check_block(block, PAGE);
    free(block);
}

static void test_errno_is_left_alone(void) {
    void *blocks[3] = {malloc(10), malloc(100000), malloc(1 << 26)};
    for (int i = 0; i < 3; i++) {
        errno = 77;
        free(blocks[i]);
        CHECK(errno == 77);
    }
}

static void *work(void *seed) {
    unsigned state = (unsigned)(uintptr_t)seed;
    unsigned char *blocks[32] = {0};
    size_t sizes[32] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        unsigned at = rand_r(&state) % 32;
        for (size_t i = 0; i < sizes[at]; i++)
            CHECK(blocks[at][i] == at);
        sizes[at] = (unsigned)rand_r(&state) % 5000;
        if (round % 3 == 0) {
            blocks[at] = realloc(blocks[at], sizes[at] += 1);
        } else {
            free(blocks[at]);
            blocks[at] = malloc(sizes[at]);
        }
        memset(blocks[at], (int)at, sizes[at]);
    }
    for (int i = 0; i < 32; i++)
        free(blocks[i]);
    return malloc(10); // another thread's to free
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *block;
        CHECK(pthread_join(threads[i], &block) == 0);
        free(block);
    }
}

static atomic_bool over;

static void *keep_allocating(void *unused) {
    while (!over)
        free(malloc(100));
    return unused;
}

// Prepares every fork as a library does that has a list to copy.
static void *kept;
static void prepare(void) { kept = malloc(50); }
static void finish(void) { free(kept); }

static void test_forks(void) {
    pthread_t threads[2];
    char *block = malloc(1000);
    memset(block, 5, 1000);
    CHECK(pthread_atfork(prepare, finish, finish) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, keep_allocating, NULL) == 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            char *fresh = malloc(3000);
            check_block(fresh, 3000);
            CHECK(block[999] == 5);
            free(fresh);
            free(block);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    over = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(block[0] == 5);
    free(block);
}

static void test_libraries(void) {
    for (int round = 0; round < 20; round++) {
        void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        CHECK(library && dlsym(library, "cos"));
        CHECK(!dlopen("libnowhere.so", RTLD_NOW) && dlerror());
        dlclose(library);
    }
}

// ---- before main, and after it

static char *early, *late;
__attribute__((constructor)) static void start(void) {
    early = malloc(40);
    late = malloc(41);
    free(malloc(5));
}
__attribute__((destructor)) static void stop(void) {
    free(late);
    free(malloc(5));
}

static void test_constructors(void) {
    check_block(early, 40);
    free(early);
}

int main(int argc, char **argv) {
    const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"malloc", test_malloc},
        {"calloc", test_calloc},
        {"realloc", test_realloc},
        {"aligned", test_aligned},
        {"errno", test_errno_is_left_alone},
        {"threads", test_threads},
        {"forks", test_forks},
        {"libraries", test_libraries},
        {"constructors", test_constructors},
    };
    if (argc == 3) {
        void *function = dlsym(RTLD_DEFAULT, "memprot_guard_size");
        CHECK(function);
        memcpy(&guard_size, &function, sizeof function);
    }
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc > 1 && strcmp(argv[1], tests[i].name) == 0) {
            tests[i].run();
            puts("passed");
            return 0;
        }
    }
    return 2;
}
