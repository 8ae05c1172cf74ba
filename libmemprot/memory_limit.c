#include "memory_limit.h"

#include "page.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH = 1024, TEXT = 4096 };

// @return whether the file could be read; its text ends in a zero then.
static bool read_file(const char *path, char *text, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t count = read(fd, text, room - 1);
    close(fd);
    if (count < 0)
        return false;
    text[count] = '\0';
    return true;
}

// "max" is no limit.
static uint64_t limit_in(const char *path) {
    char text[32];
    uint64_t limit = 0;
    if (!read_file(path, text, sizeof text) || text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    for (const char *at = text; *at >= '0' && *at <= '9'; at++)
        limit = limit > UINT64_MAX / 10 - 1 ? UINT64_MAX - 9 : limit * 10 + (uint64_t)(*at - '0');
    return limit;
}

// The least limit of a group and those above it: /sys/fs/cgroup is a tree.
static uint64_t limit_above(const char *root, char *group, const char *file) {
    uint64_t least = UINT64_MAX;
    char path[PATH];
    for (;;) {
        int length = snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        uint64_t limit = length > 0 && (size_t)length < sizeof path ? limit_in(path) : UINT64_MAX;
        least = limit < least ? limit : least;
        char *last = strrchr(group, '/');
        if (!last)
            return least;
        *last = '\0';
    }
}

// A line is "0::/path" for the one tree of version 2, "4:memory:/path" for that of version 1 (cgroups(7)).
static uint64_t limit_of_line(char *line) {
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
        return UINT64_MAX;
    *controllers++ = *group++ = '\0';
    if (strcmp(group, "/") == 0)
        *group = '\0';
    if (*controllers == '\0')
        return limit_above("/sys/fs/cgroup", group, "memory.max");
    return strcmp(controllers, "memory") == 0 ? limit_above("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
                                              : UINT64_MAX;
}

uint64_t memprot_machine_memory(void) { return (uint64_t)sysconf(_SC_PHYS_PAGES) * memprot_page_size(); }

uint64_t memprot_memory_limit(void) {
    char text[TEXT], *rest = NULL;
    uint64_t least = memprot_machine_memory();
    if (!read_file("/proc/self/cgroup", text, sizeof text))
        return least;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        uint64_t limit = limit_of_line(line);
        least = limit < least ? limit : least;
    }
    return least;
}
