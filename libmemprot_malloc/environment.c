#include "environment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char preload[] = "LD_PRELOAD=", library[] = "libmemprot_malloc.so", own[] = "MEMPROT_";

static bool starts_with(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

// The launcher puts the library in front of what the user preloads. Returns where that begins, or NULL when the entry
// names no library of ours.
static char *behind_our_library(char *entry) {
    char *first = entry + sizeof preload - 1;
    size_t length = strcspn(first, ": ");
    size_t name = sizeof library - 1;
    if (length < name || memcmp(first + length - name, library, name) != 0)
        return NULL;
    return first[length] ? first + length + 1 : first + length;
}

static bool is_ours(const char *entry) {
    if (starts_with(entry, own))
        return true;
    char *rest = starts_with(entry, preload) ? behind_our_library((char *)entry) : NULL;
    return rest && !*rest;
}

// Where the user preloads something too, the entry becomes the user's.
static void shorten(char *entry) {
    char *rest = starts_with(entry, preload) ? behind_our_library(entry) : NULL;
    if (rest && *rest)
        memmove(entry + sizeof preload - 1, rest, strlen(rest) + 1);
}

char **memprot_environment_copy_without_memprot(void) {
    size_t count = 0, bytes = 0;
    for (char **entry = environ; *entry; entry++, count++)
        bytes += strlen(*entry) + 1;
    char **copy = malloc((count + 1) * sizeof *copy + bytes);
    if (!copy)
        return NULL;
    char *end = (char *)(copy + count + 1);
    size_t kept = 0;
    for (char **entry = environ; *entry; entry++) {
        if (is_ours(*entry))
            continue;
        copy[kept] = strcpy(end, *entry);
        end += strlen(end) + 1;
        shorten(copy[kept++]);
    }
    copy[kept] = NULL;
    return copy;
}

void memprot_environment_forget_memprot(void) {
    char **kept = environ;
    for (char **entry = environ; *entry; entry++) {
        if (is_ours(*entry))
            continue;
        shorten(*entry);
        *kept++ = *entry;
    }
    *kept = NULL;
}
