#include "proc_text.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

// What is looked for stands at the beginning of a line.
enum { CHUNK_SIZE = 1 << 13, LINE_SIZE = 256 };

struct line {
    size_t length;
    char text[LINE_SIZE]; // ends with a zero byte
};

// Looks at a line; false: no more of them.
typedef bool see_function(const struct line *line, void *context);

// Runs in a forked child.
static int each_line(int fd, see_function *see, void *context) {
    char chunk[CHUNK_SIZE];
    struct line line = {0};
    off_t offset = 0;
    ssize_t got;
    while ((got = pread(fd, chunk, sizeof chunk, offset)) > 0) {
        offset += got;
        for (ssize_t i = 0; i < got; i++) {
            if (chunk[i] != '\n') {
                if (line.length < LINE_SIZE - 1)
                    line.text[line.length++] = chunk[i];
                continue;
            }
            line.text[line.length] = '\0';
            if (!(*see)(&line, context))
                return 0;
            line.length = 0;
        }
    }
    return got < 0 ? -1 : 0;
}

// Runs in a forked child. The hexadecimal number at the beginning; what ends it.
static char number_at(const char **text, uint64_t *ret) {
    static const char digits[] = "0123456789abcdef";
    const char *digit;
    *ret = 0;
    while (**text != '\0' && (digit = strchr(digits, **text)) != NULL) {
        *ret = *ret << 4 | (uint64_t)(digit - digits);
        ++*text;
    }
    return **text;
}

// Runs in a forked child.
static bool count_line(const struct line *line, void *context) {
    const char *text = line->text;
    uint64_t start;
    number_at(&text, &start);
    // The gate page lies in the kernel's half of the addresses.
    if (start >> 63 == 0)
        ++*(size_t *)context;
    return true;
}

// Runs in a forked child.
int memprot_count_mappings(int fd, size_t *ret) {
    *ret = 0;
    return each_line(fd, count_line, ret);
}

// Runs in a forked child. The decimal number after blanks.
static size_t kibibytes_at(const char *text) {
    size_t number = 0;
    while (*text == ' ')
        text++;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (size_t)(*text - '0');
    return number;
}

struct flag_search {
    uint64_t address;
    bool inside; // the lines speak of the mapping that is looked for
    int found;
    size_t *page_size;
    char *flags;
};

// Runs in a forked child.
static bool look_for_flags(const struct line *line, void *context) {
    static const char key[] = "VmFlags: ", size_key[] = "KernelPageSize:";
    struct flag_search *search = context;
    const char *text = line->text;
    uint64_t start, stop;
    if (number_at(&text, &start) == '-' && text != line->text) {
        text++;
        if (number_at(&text, &stop) == ' ') {
            search->inside = start <= search->address && search->address < stop;
            return start <= search->address;
        }
    }
    if (search->inside && strncmp(line->text, size_key, sizeof size_key - 1) == 0)
        *search->page_size = kibibytes_at(line->text + sizeof size_key - 1) << 10;
    if (!search->inside || strncmp(line->text, key, sizeof key - 1) != 0)
        return true;
    memcpy(search->flags, line->text + sizeof key - 1, line->length + 1 - (sizeof key - 1));
    search->found = 1;
    return false;
}

// Runs in a forked child.
int memprot_mapping_flags(int fd, uint64_t address, size_t *page_size, char *ret) {
    struct flag_search search = {.address = address, .page_size = page_size, .flags = ret};
    return each_line(fd, look_for_flags, &search) < 0 ? -1 : search.found;
}
