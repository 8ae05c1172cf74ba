#include "maps.h"
#include "query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PATH_BLOCK_SIZE = 1 << 16,
    TEXT_SIZE = 1 << 15, // the kernel gives at most a page of lines per read(2), unless one line is longer
    READINGS = 5,
};

// Paths stay where they are while the mappings that share them grow in number.
struct memprot_path_block {
    struct memprot_path_block *next;
    size_t used, size;
    char bytes[];
};

// One pass over a text.
struct reading {
    struct memprot_maps *maps;
    int fd; // -1: a saved text
    bool clip, overlapped;
    size_t lines;
    const char *name; // the last one met, as the text has it
    size_t name_length;
    size_t named; // the index of the mapping it belongs to
};

void memprot_maps_init(struct memprot_maps *ret) { *ret = (struct memprot_maps){0}; }

static void free_paths(struct memprot_maps *maps) {
    while (maps->paths != NULL) {
        struct memprot_path_block *next = maps->paths->next;
        free(maps->paths);
        maps->paths = next;
    }
}

void memprot_maps_deinit(struct memprot_maps *maps) {
    free_paths(maps);
    free(maps->mappings);
    memprot_maps_init(maps);
}

static struct memprot_mapping *add_mapping(struct memprot_maps *maps) {
    if (maps->count == maps->capacity) {
        size_t capacity = maps->capacity == 0 ? 64 : 2 * maps->capacity;
        struct memprot_mapping *mappings = realloc(maps->mappings, capacity * sizeof *mappings);
        if (mappings == NULL)
            return NULL;
        maps->mappings = mappings;
        maps->capacity = capacity;
    }
    return &maps->mappings[maps->count++];
}

// Copies a name and ends it with a zero byte.
static char *keep_name(struct memprot_maps *maps, const char *name, size_t length) {
    struct memprot_path_block *block = maps->paths;
    if (block == NULL || block->size - block->used <= length) {
        // The first block is small: most callers of memprot_maps_find want one name.
        size_t size = length + 1 > PATH_BLOCK_SIZE ? length + 1 : block == NULL ? length + 256 : PATH_BLOCK_SIZE;
        block = malloc(sizeof *block + size);
        if (block == NULL)
            return NULL;
        *block = (struct memprot_path_block){.next = maps->paths, .size = size};
        maps->paths = block;
    }
    char *copy = block->bytes + block->used;
    memcpy(copy, name, length);
    copy[length] = '\0';
    block->used += length + 1;
    return copy;
}

static inline uint64_t parse_hexadecimal(const char **text) {
    const char *at = *text;
    uint64_t value = 0;
    for (;; at++) {
        unsigned digit = (unsigned char)*at - (unsigned)'0';
        if (digit > 9) {
            digit = (unsigned char)*at - (unsigned)'a';
            if (digit > 5)
                break;
            digit += 10;
        }
        value = value << 4 | digit;
    }
    *text = at;
    return value;
}

static inline uint64_t parse_decimal(const char **text) {
    const char *at = *text;
    uint64_t value = 0;
    for (unsigned digit; (digit = (unsigned char)*at - (unsigned)'0') <= 9; at++)
        value = value * 10 + digit;
    *text = at;
    return value;
}

// The kernel escapes the newline in a name and nothing else, not even the backslash.
static size_t undo_escapes(char *name, size_t length) {
    size_t written = 0;
    for (size_t i = 0; i < length;) {
        bool escape = length - i >= 4 && memcmp(name + i, "\\012", 4) == 0;
        name[written++] = escape ? '\n' : name[i];
        i += escape ? 4 : 1;
    }
    name[written] = '\0';
    return written;
}

// A name with \012 in it is a newline or those four characters; only the kernel knows.
static char *unescaped_name(struct reading *reading, const struct memprot_mapping *mapping, size_t *length) {
    char name[MEMPROT_NAME_SIZE];
    struct memprot_mapping found;
    if (reading->fd >= 0 && memprot_maps_query(reading->fd, mapping->start, &found, name, sizeof name) == 1 &&
        found.start == mapping->start && found.inode == mapping->inode && found.path != NULL) {
        *length = strlen(name);
        return keep_name(reading->maps, name, *length);
    }
    char *copy = keep_name(reading->maps, reading->name, reading->name_length);
    if (copy != NULL)
        *length = undo_escapes(copy, reading->name_length);
    return copy;
}

static int parse_name(struct reading *reading, struct memprot_mapping *mapping, const char *name, size_t length) {
    if (length == 0) {
        memprot_mapping_name(mapping, NULL, 0, false);
        return 0;
    }
    struct memprot_maps *maps = reading->maps;
    if (reading->name != NULL && reading->name_length == length && memcmp(reading->name, name, length) == 0) {
        const struct memprot_mapping *previous = &maps->mappings[reading->named];
        if (previous->inode == mapping->inode && previous->device_major == mapping->device_major &&
            previous->device_minor == mapping->device_minor) {
            mapping->path = previous->path;
            mapping->path_length = previous->path_length;
            mapping->deleted = previous->deleted;
            mapping->kind =
                previous->shared == mapping->shared ? previous->kind : (uint8_t)memprot_mapping_kind(mapping);
            return 0;
        }
    }
    char *path = keep_name(maps, name, length);
    if (path == NULL)
        return -1;
    reading->name = path;
    reading->name_length = length;
    reading->named = maps->count - 1;
    if (memmem(name, length, "\\012", 4) != NULL) {
        path = unescaped_name(reading, mapping, &length);
        if (path == NULL)
            return -1;
    }
    memprot_mapping_name(mapping, path, length, reading->fd >= 0);
    return 0;
}

// start-stop rwxp offset major:minor inode       name
static bool parse_numbers(const char **text, struct memprot_mapping *mapping) {
    const char *at = *text;
    mapping->start = parse_hexadecimal(&at);
    if (*at++ != '-')
        return false;
    mapping->stop = parse_hexadecimal(&at);
    if (*at++ != ' ' || mapping->stop <= mapping->start)
        return false;
    if ((at[0] != 'r' && at[0] != '-') || (at[1] != 'w' && at[1] != '-') || (at[2] != 'x' && at[2] != '-') ||
        (at[3] != 's' && at[3] != 'p') || at[4] != ' ')
        return false;
    mapping->prot =
        (uint8_t)((at[0] == 'r' ? PROT_READ : 0) | (at[1] == 'w' ? PROT_WRITE : 0) | (at[2] == 'x' ? PROT_EXEC : 0));
    mapping->shared = at[3] == 's';
    at += 5;
    mapping->offset = parse_hexadecimal(&at);
    if (*at++ != ' ')
        return false;
    mapping->device_major = (uint32_t)parse_hexadecimal(&at);
    if (*at++ != ':')
        return false;
    mapping->device_minor = (uint32_t)parse_hexadecimal(&at);
    if (*at++ != ' ')
        return false;
    mapping->inode = parse_decimal(&at);
    *text = at;
    return *at == ' ' || *at == '\n';
}

// A line ends with a newline, at which every number stops.
static int parse_line(struct reading *reading, const char *line, const char *newline) {
    struct memprot_mapping mapping = {0};
    reading->lines++;
    if (!parse_numbers(&line, &mapping)) {
        errno = EBADMSG;
        return -1;
    }
    while (*line == ' ')
        line++;
    struct memprot_maps *maps = reading->maps;
    uint64_t known = maps->count == 0 ? 0 : maps->mappings[maps->count - 1].stop;
    if (mapping.start < known) {
        reading->overlapped = true;
        if (!reading->clip || mapping.stop <= known)
            return 0;
        if (mapping.inode != 0)
            mapping.offset += known - mapping.start;
        mapping.start = known;
    }
    struct memprot_mapping *added = add_mapping(maps);
    if (added == NULL)
        return -1;
    *added = mapping;
    if (parse_name(reading, added, line, (size_t)(newline - line)) < 0) {
        maps->count--;
        return -1;
    }
    return 0;
}

// @return the bytes of whole lines at the beginning of the text, or -1.
static ssize_t parse_lines(struct reading *reading, const char *text, size_t length) {
    const char *line = text, *end = text + length, *newline;
    while (line < end && (newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        if (parse_line(reading, line, newline) < 0)
            return -1;
        if (reading->overlapped && !reading->clip)
            return 0;
        line = newline + 1;
    }
    return line - text;
}

static void forget(struct memprot_maps *maps) {
    maps->count = 0;
    free_paths(maps);
}

static int read_once(struct reading *reading, char **text, size_t *size) {
    size_t kept = 0;
    off_t offset = 0;
    while (!reading->overlapped || reading->clip) {
        if (*size - kept < TEXT_SIZE / 2) {
            char *larger = realloc(*text, 2 * *size);
            if (larger == NULL)
                return -1;
            *text = larger;
            *size *= 2;
        }
        ssize_t got = pread(reading->fd, *text + kept, *size - kept, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0) {
            if (kept == 0)
                return 0;
            errno = EBADMSG;
            return -1;
        }
        offset += got;
        kept += (size_t)got;
        ssize_t parsed = parse_lines(reading, *text, kept);
        if (parsed < 0)
            return -1;
        kept -= (size_t)parsed;
        memmove(*text, *text + parsed, kept);
    }
    return 0;
}

// The text of an address space that went away just ends, wherever the reader was.
static bool is_gone(int fd, const struct memprot_maps *maps) {
    struct memprot_mapping ignored;
    char name[MEMPROT_NAME_SIZE];
    return maps->count == 0 || (memprot_maps_query(fd, 0, &ignored, name, sizeof name) < 0 && errno == ESRCH);
}

int memprot_maps_read(int fd, struct memprot_maps *ret) {
    size_t size = TEXT_SIZE;
    char *text = malloc(size);
    if (text == NULL)
        return -1;
    int status = 0;
    for (int i = 1; i <= READINGS; i++) {
        forget(ret);
        struct reading reading = {.maps = ret, .fd = fd, .clip = i == READINGS};
        status = read_once(&reading, &text, &size);
        if (status < 0 || !reading.overlapped)
            break;
    }
    free(text);
    if (status == 0 && is_gone(fd, ret)) {
        errno = ESRCH;
        status = -1;
    }
    return status;
}

int memprot_maps_parse(const char *text, size_t length, struct memprot_maps *ret, size_t *line) {
    forget(ret);
    struct reading reading = {.maps = ret, .fd = -1, .clip = true};
    ssize_t parsed = parse_lines(&reading, text, length);
    if (parsed >= 0 && (size_t)parsed < length) {
        reading.lines++;
        errno = EBADMSG; // the last line has no end, so some of it may be missing
        parsed = -1;
    }
    *line = reading.lines;
    return parsed < 0 ? -1 : 0;
}

const struct memprot_mapping *memprot_maps_next(const struct memprot_maps *maps, uint64_t address) {
    size_t low = 0, high = maps->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (maps->mappings[middle].stop <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < maps->count ? &maps->mappings[low] : NULL;
}

const struct memprot_mapping *memprot_maps_at(const struct memprot_maps *maps, uint64_t address) {
    const struct memprot_mapping *next = memprot_maps_next(maps, address);
    return next != NULL && next->start <= address ? next : NULL;
}

// The one mapping that the kernel answered with.
static int keep_answer(struct memprot_maps *maps, const struct memprot_mapping *found, const char *name,
                       const struct memprot_mapping **ret) {
    forget(maps);
    struct memprot_mapping *added = add_mapping(maps);
    if (added == NULL)
        return -1;
    *added = *found;
    maps->count = 1;
    if (found->path != NULL) {
        added->path = keep_name(maps, name, found->path_length);
        if (added->path == NULL)
            return -1;
    }
    *ret = added;
    return 0;
}

int memprot_maps_find(int fd, uint64_t address, struct memprot_maps *maps, const struct memprot_mapping **ret) {
    char name[MEMPROT_NAME_SIZE];
    struct memprot_mapping found;
    *ret = NULL;
    int answer = memprot_maps_query(fd, address, &found, name, sizeof name);
    // The gate page lies in the kernel's half of the addresses.
    if (answer == 0 && address >> 63 == 0)
        return 0;
    if (answer > 0)
        return keep_answer(maps, &found, name, ret);
    if ((answer < 0 && errno == ESRCH) || memprot_maps_read(fd, maps) < 0)
        return -1;
    *ret = memprot_maps_at(maps, address);
    return 0;
}

int memprot_maps_find_next(int fd, uint64_t address, struct memprot_maps *maps, const struct memprot_mapping **ret) {
    char name[MEMPROT_NAME_SIZE];
    struct memprot_mapping found;
    *ret = NULL;
    int answer = memprot_maps_query_next(fd, address, &found, name, sizeof name);
    if (answer > 0)
        return keep_answer(maps, &found, name, ret);
    if (answer == 0)
        return 0;
    if (errno == ESRCH || memprot_maps_read(fd, maps) < 0)
        return -1;
    *ret = memprot_maps_next(maps, address);
    if (*ret != NULL && (*ret)->kind == MEMPROT_KIND_VSYSCALL)
        *ret = NULL;
    return 0;
}
