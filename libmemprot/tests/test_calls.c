// The calls that are more than a system call: the program break, the rights of keys, shared memory.
#include "check.h"
#include "key_rights.h"
#include "program_break.h"
#include "shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

static int failed_with(long result, int error) { return result == -1 && errno == error; }

static void test_break(void) {
    uintptr_t before = memprot_brk(0);
    CHECK(memprot_break_raise(4096) == before, "the break was not where it was");
    CHECK((uintptr_t)sbrk(0) == before + 4096, "the C library does not know");
    CHECK(memprot_break_lower(4096) == before + 4096, "it did not go back");
    CHECK(memprot_brk(0) == before, "it is elsewhere");
    CHECK(failed_with((long)memprot_brk(1), ENOMEM), "below the heap");
    CHECK(failed_with((long)memprot_break_raise(UINTPTR_MAX - 1), ENOMEM), "above the address space");
    CHECK(failed_with((long)memprot_break_lower(before), ENOMEM), "to address 0, which would be a question");
    CHECK(failed_with((long)memprot_break_lower(UINTPTR_MAX), ENOMEM), "below address 0");
    CHECK(memprot_brk(0) == before, "a refusal moved it");
}

static void test_key_rights(void) {
    CHECK(failed_with(memprot_pkey_get(MEMPROT_KEYS), EINVAL), "a key that is none");
    CHECK(failed_with(memprot_pkey_get(1UL << 32), EINVAL), "a key that was cut to 32 bits");
    CHECK(failed_with(memprot_pkey_set(1, 4), EINVAL), "rights that are none");
    if (!memprot_has_key_rights()) {
        CHECK(failed_with(memprot_pkey_get(1), ENOSYS), "no keys");
        CHECK(failed_with(memprot_pkey_set(1, 0), ENOSYS), "no keys");
        return;
    }
    int before = memprot_pkey_get(15);
    CHECK(memprot_pkey_set(15, MEMPROT_KEY_DISABLE_WRITE) == 0, "errno %d", errno);
    CHECK(memprot_pkey_get(15) == MEMPROT_KEY_DISABLE_WRITE, "other rights");
    CHECK(memprot_pkey_set(15, (unsigned long)before) == 0, "errno %d", errno);
}

static void test_shared_memory(void) {
    char name[64];
    snprintf(name, sizeof name, "/memprot-test-%d", (int)getpid());
    CHECK(failed_with(memprot_shm_open(name, O_RDWR, 0), ENOENT), "it is there already");
    int fd = memprot_shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0, "errno %d", errno);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "it survives execve");
    CHECK(memprot_shm_unlink(name + 1) == 0, "without its slash: errno %d", errno);
    CHECK(failed_with(memprot_shm_unlink(name), ENOENT), "it is still there");
    CHECK(failed_with(memprot_shm_open("/a/b", O_RDWR, 0), EINVAL), "a name with two slashes");
    CHECK(failed_with(memprot_shm_open("/..", O_RDWR, 0), EINVAL), "a folder");
    close(fd);
}

int main(void) {
    test_break();
    test_key_rights();
    test_shared_memory();
    return failed_checks == 0 ? TEST_PASSED : TEST_FAILED;
}
