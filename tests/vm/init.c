// The first process of the virtual machine: init FOLDER MODULE.
//
// The root is the host's own, read-only. An overlay makes every path writable without a byte reaching the host;
// in it runs the script FOLDER/command. Its output goes to the first virtio console, its exit status as a decimal
// number to the second serial line, and then the machine is switched off.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const char output_device[] = "/dev/hvc0", status_device[] = "/dev/ttyS1";

// A status that no command has by itself: the runner then shows what is on the console.
enum { NO_STATUS = 125 };

static _Noreturn void switch_off(int status) {
    int line = open(status_device, O_WRONLY | O_NOCTTY);
    if (line >= 0) {
        dprintf(line, "%d\n", status);
        tcdrain(line);
    }
    sync();
    reboot(RB_POWER_OFF);
    _exit(status);
}

__attribute__((format(printf, 1, 2))) static _Noreturn void give_up(const char *format, ...) {
    int error = errno;
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fprintf(stderr, ": %s\n", strerror(error));
    switch_off(NO_STATUS);
}

// The kernel may have mounted a file system by itself already.
static void mount_on(const char *folder, const char *type, const char *options) {
    if (mkdir(folder, 0755) < 0 && errno != EEXIST && errno != EROFS)
        give_up("mkdir %s", folder);
    if (mount(type, folder, type, 0, options) < 0 && errno != EBUSY)
        give_up("mount %s", folder);
}

static void load_module(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || (syscall(SYS_finit_module, file, "", 0) < 0 && errno != EEXIST))
        give_up("load %s", path);
    close(file);
}

static void enter_overlay(void) {
    mount_on("/run", "tmpfs", "mode=755");
    const char *const folders[] = {"/run/changed", "/run/work", "/run/root"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        if (mkdir(folders[i], 0755) < 0)
            give_up("mkdir %s", folders[i]);
    }
    if (mount("overlay", "/run/root", "overlay", 0, "lowerdir=/,upperdir=/run/changed,workdir=/run/work") < 0)
        give_up("mount the overlay");
    if (chdir("/run/root") < 0 || chroot(".") < 0)
        give_up("enter the overlay");
}

static void mount_all(void) {
    mount_on("/proc", "proc", "");
    mount_on("/sys", "sysfs", "");
    mount_on("/dev", "devtmpfs", "");
    mount_on("/run", "tmpfs", "mode=755");
    mount_on("/dev/shm", "tmpfs", "mode=1777");
    mount_on("/dev/pts", "devpts", "ptmxmode=666");
    const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            give_up("symlink %s", links[i][1]);
    }
}

static _Noreturn void run(const char *script) {
    int input = open("/dev/null", O_RDONLY), output = open(output_device, O_WRONLY | O_NOCTTY);
    struct termios settings;
    if (input < 0 || output < 0 || tcgetattr(output, &settings) < 0)
        give_up("open %s", output_device);
    cfmakeraw(&settings);
    if (tcsetattr(output, TCSANOW, &settings) < 0)
        give_up("set up %s", output_device);
    if (setsid() < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || close_range(3, ~0U, 0) < 0)
        give_up("prepare the command");
    execl("/bin/sh", "sh", script, (char *)NULL);
    _exit(127);
}

static int wait_for(pid_t command) {
    int status;
    pid_t ended;
    while ((ended = wait(&status)) != command) { // orphans end up here as well
        if (ended < 0)
            give_up("wait");
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    mount_on("/dev", "devtmpfs", "");
    if (argc != 3) {
        errno = EINVAL;
        give_up("init FOLDER MODULE");
    }
    load_module(argv[2]);
    enter_overlay();
    mount_all();
    struct rlimit locked = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &locked) < 0)
        give_up("setrlimit");
    char script[4096];
    snprintf(script, sizeof script, "%s/command", argv[1]);
    pid_t command = fork();
    if (command < 0)
        give_up("fork");
    if (command == 0)
        run(script);
    int status = wait_for(command);
    int output = open(output_device, O_WRONLY | O_NOCTTY);
    if (output >= 0)
        tcdrain(output);
    switch_off(status);
}
