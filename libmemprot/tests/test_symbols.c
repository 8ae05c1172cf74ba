// Symbols of this program, of its libraries, of files that are broken and of files that were replaced.
#include "check.h"
#include "symbols.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <limits.h>

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

extern const char __executable_start[];

static char executable[PATH_MAX];
static char folder[] = "/tmp/test_symbols.XXXXXX";

static int called;

// noipa: or their addresses might be those of another function with the same body.
__attribute__((noipa)) static void only_static(void) { called += 1; }

static uintptr_t return_address;

static jmp_buf after_call;

__attribute__((noipa, noreturn)) static void never_returns(void) {
    return_address = (uintptr_t)__builtin_return_address(0);
    longjmp(after_call, 1);
}

// Nothing comes back from the call, so that the function ends with it.
__attribute__((noipa)) static void ends_with_a_call(void) { never_returns(); }

static bool is(const char *actual, const char *expected) { return actual && strcmp(actual, expected) == 0; }

#define CHECK_SYMBOL(symbol, name, file, bytes)                                                                        \
    CHECK(is((symbol).function, name) && is((symbol).library, file) && (symbol).offset == (bytes), "%s: %s+%#lx",      \
          (symbol).library ? (symbol).library : "no library", (symbol).function ? (symbol).function : "no function",   \
          (unsigned long)(symbol).offset)

static void test_a_static_function_has_its_name(void) {
    struct memprot_symbol symbol;
    CHECK(memprot_symbol_find((uintptr_t)only_static + 2, &symbol), "not found");
    CHECK_SYMBOL(symbol, "only_static", executable, 2);
}

static void test_a_library_function_has_its_name_and_path(void) {
    struct memprot_symbol symbol;
    Dl_info info;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "qsort"), &info), "no qsort");
    CHECK(memprot_symbol_find((uintptr_t)info.dli_saddr + 5, &symbol), "not found");
    CHECK_SYMBOL(symbol, "qsort", info.dli_fname, 5);
}

static void test_a_return_address_minus_one_is_in_the_caller(void) {
    struct memprot_symbol symbol;
    if (setjmp(after_call) == 0)
        ends_with_a_call();
    CHECK(memprot_symbol_find(return_address - 1, &symbol), "not found");
    CHECK(is(symbol.function, "ends_with_a_call"), "%s", symbol.function);
}

static void test_an_address_outside_every_object_has_nothing(void) {
    struct memprot_symbol symbol;
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(!memprot_symbol_find((uintptr_t)page, &symbol), "%s", symbol.library);
    CHECK(!symbol.function && !symbol.library && symbol.offset == 0, "not zero");
    CHECK(!memprot_symbol_find(0, &symbol), "%s", symbol.library);
    CHECK(!memprot_symbol_find(UINTPTR_MAX, &symbol), "%s", symbol.library);
    munmap(page, 4096);
}

static void test_code_without_a_symbol_has_an_offset_from_the_load_address(void) {
    struct memprot_symbol symbol;
    // The ELF header is loaded, and no function.
    CHECK(memprot_symbol_find((uintptr_t)__executable_start + 3, &symbol), "not found");
    CHECK(!symbol.function && is(symbol.library, executable) && symbol.offset == 3, "%s+%#lx", symbol.function,
          (unsigned long)symbol.offset);
}

static void test_the_kernels_own_object_is_found_without_a_file(void) {
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
    struct memprot_symbol symbol;
    if (!vdso)
        return;
    CHECK(memprot_symbol_find(vdso + 1, &symbol), "not found");
    CHECK(symbol.library && symbol.offset == 1, "%#lx", (unsigned long)symbol.offset);
}

static void test_a_file_gives_what_the_process_gives(void) {
    struct memprot_symbol symbol;
    uint64_t address = (uintptr_t)only_static - (uintptr_t)__executable_start + 1;
    CHECK(memprot_symbol_find_in_file(executable, address, &symbol), "%s", strerror(errno));
    CHECK_SYMBOL(symbol, "only_static", executable, 1);
}

static void test_a_line_of_maps_gives_what_the_process_gives(void) {
    FILE *maps = fopen("/proc/self/maps", "re");
    uintptr_t pc = (uintptr_t)only_static + 1, start, stop, offset;
    char line[PATH_MAX + 100];
    bool found = false;
    while (maps && !found && fgets(line, sizeof line, maps))
        found = sscanf(line, "%lx-%lx %*s %lx", &start, &stop, &offset) == 3 && start <= pc && pc < stop;
    struct memprot_symbol symbol = {0};
    CHECK(found && memprot_symbol_find_at_file_offset(executable, pc - start + offset, &symbol), "not found");
    CHECK_SYMBOL(symbol, "only_static", executable, 1);
    if (maps)
        fclose(maps);
}

static char *read_file(const char *path, size_t *ret_size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *content = NULL;
    if (fd >= 0 && fstat(fd, &status) == 0 && (content = malloc((size_t)status.st_size)) != NULL &&
        read(fd, content, (size_t)status.st_size) == status.st_size)
        *ret_size = (size_t)status.st_size;
    else
        abort();
    close(fd);
    return content;
}

static void write_file(const char *path, const char *content, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    if (fd < 0 || write(fd, content, size) != (ssize_t)size || close(fd) < 0)
        abort();
}

static const char *path_in_folder(const char *name) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void check_broken(const char *content, size_t size) {
    const char *path = path_in_folder("broken");
    struct memprot_symbol symbol;
    write_file(path, content, size);
    errno = 0;
    if (!memprot_symbol_find_in_file(path, 0x1234, &symbol))
        CHECK(errno == ENOEXEC, "%s", strerror(errno));
    unlink(path);
}

static void test_a_broken_file_is_refused_or_read_as_far_as_it_makes_sense(void) {
    size_t size;
    char *content = read_file(executable, &size);
    for (size_t length = 0; length < size; length += length < 256 ? 7 : size / 50)
        check_broken(content, length);
    srand(1);
    // Header, program headers and section headers: the parts that lead elsewhere.
    for (int i = 0; i < 500; i++) {
        size_t position = (size_t)rand() % 1024;
        if (i % 2)
            position = size - 1 - (size_t)rand() % 2048;
        char saved = content[position];
        content[position] = (char)rand();
        check_broken(content, size);
        content[position] = saved;
    }
    free(content);
}

static void test_what_is_no_elf_file_is_an_error_with_a_reason(void) {
    struct memprot_symbol symbol;
    CHECK(!memprot_symbol_find_in_file(path_in_folder("missing"), 0, &symbol) && errno == ENOENT, "%s",
          strerror(errno));
    CHECK(!memprot_symbol_find_in_file(folder, 0, &symbol) && errno == ENOEXEC, "%s", strerror(errno));
    const char *pipe = path_in_folder("pipe");
    CHECK(mkfifo(pipe, 0600) == 0, "%s", strerror(errno));
    CHECK(!memprot_symbol_find_in_file(pipe, 0, &symbol) && errno == ENOEXEC, "%s", strerror(errno));
    unlink(pipe);
}

static void copy_file(const char *from, const char *name) {
    size_t size;
    char *content = read_file(from, &size);
    write_file(path_in_folder(name), content, size);
    free(content);
}

static void test_a_file_that_was_replaced_after_loading_is_not_believed(void) {
    Dl_info math, c;
    int (*volatile without_aliases)(int) = fedisableexcept;
    CHECK(dladdr((void *)(uintptr_t)without_aliases, &math) && dladdr(dlsym(RTLD_DEFAULT, "qsort"), &c),
          "no libraries");
    copy_file(math.dli_fname, "library");
    void *library = dlopen(path_in_folder("library"), RTLD_NOW | RTLD_LOCAL);
    CHECK(library, "%s", dlerror());
    if (!library)
        return;
    uintptr_t pc = (uintptr_t)dlsym(library, "fedisableexcept");
    unlink(path_in_folder("library"));
    copy_file(c.dli_fname, "library");
    struct memprot_symbol symbol;
    CHECK(memprot_symbol_find(pc + 1, &symbol), "not found");
    CHECK(is(symbol.function, "fedisableexcept") && symbol.offset == 1, "%s", symbol.function);
    dlclose(library);
    unlink(path_in_folder("library"));
}

static void test_an_implementation_chosen_by_libc_has_its_public_name(void) {
    static const char *const names[] = {"memmove", "memset"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct memprot_symbol symbol;
        Dl_info info;
        uintptr_t start = (uintptr_t)dlsym(RTLD_DEFAULT, names[i]);
        CHECK(dladdr((void *)start, &info), "no %s", names[i]);
        CHECK(memprot_symbol_find(start + 3, &symbol), "not found");
        // A libc with a full symbol table has a longer name.
        CHECK(symbol.function && strstr(symbol.function, names[i]) && symbol.offset == 3, "%s+%#lx", symbol.function,
              (unsigned long)symbol.offset);
        CHECK(memprot_symbol_find_in_file(info.dli_fname, start + 3 - (uintptr_t)info.dli_fbase, &symbol), "%s",
              strerror(errno));
        CHECK(symbol.function && strstr(symbol.function, names[i]) && symbol.offset == 3, "%s+%#lx", symbol.function,
              (unsigned long)symbol.offset);
    }
}

static void test_only_what_a_name_resolves_to_is_its_implementation(const char *path) {
    struct memprot_symbol symbol;
    Dl_info info;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(library, "%s", dlerror());
    if (!library)
        return;
    const uintptr_t *implementations = dlsym(library, "implementations");
    bool known = implementations && dladdr(implementations, &info);
    CHECK(known, "no implementations");
    if (!known)
        return;
    uintptr_t base = (uintptr_t)info.dli_fbase;
    CHECK(memprot_symbol_find(implementations[0] + 1, &symbol), "not found");
    CHECK_SYMBOL(symbol, "increment", path, 1);
    CHECK(memprot_symbol_find_in_file(path, implementations[0] + 1 - base, &symbol), "%s", strerror(errno));
    CHECK_SYMBOL(symbol, "increment", path, 1);
    CHECK(memprot_symbol_find(implementations[1] + 1, &symbol), "not found");
    CHECK(!symbol.function && symbol.offset == implementations[1] + 1 - base, "%s+%#lx", symbol.function,
          (unsigned long)symbol.offset);

    // In a copy that no process has loaded, nobody knows what was chosen.
    copy_file(path, "indirect");
    CHECK(memprot_symbol_find_in_file(path_in_folder("indirect"), implementations[0] + 1 - base, &symbol), "%s",
          strerror(errno));
    CHECK(!symbol.function, "%s", symbol.function);
    unlink(path_in_folder("indirect"));
    dlclose(library);
}

int main(int argc, char **argv) {
    ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
    if (length < 0 || !mkdtemp(folder)) {
        perror("test_symbols");
        return TEST_FAILED;
    }
    only_static();
    test_a_static_function_has_its_name();
    test_a_library_function_has_its_name_and_path();
    test_a_return_address_minus_one_is_in_the_caller();
    test_an_address_outside_every_object_has_nothing();
    test_code_without_a_symbol_has_an_offset_from_the_load_address();
    test_the_kernels_own_object_is_found_without_a_file();
    test_a_file_gives_what_the_process_gives();
    test_a_line_of_maps_gives_what_the_process_gives();
    test_a_broken_file_is_refused_or_read_as_far_as_it_makes_sense();
    test_what_is_no_elf_file_is_an_error_with_a_reason();
    test_a_file_that_was_replaced_after_loading_is_not_believed();
    test_an_implementation_chosen_by_libc_has_its_public_name();
    if (argc > 1)
        test_only_what_a_name_resolves_to_is_its_implementation(argv[1]);
    rmdir(folder);
    return failed_checks ? TEST_FAILED : TEST_PASSED;
}
