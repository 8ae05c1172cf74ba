#include "settings.h"

#include "page.h"

#include <stddef.h>
#include <string.h>

struct memprot_malloc_settings memprot_malloc_settings;

void memprot_malloc_configure(uint32_t sample, enum memprot_side side, size_t align) {
    atomic_store(&memprot_malloc_settings.side, side);
    atomic_store(&memprot_malloc_settings.align, align);
    atomic_store(&memprot_malloc_settings.sample, sample);
}

struct choice {
    uint64_t sample, side, align, quarantine;
};

static bool is_value(const char *text, size_t length, const char *name) {
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

static bool read_side(const char *text, size_t length, uint64_t *ret) {
    static const char *const names[] = {"right", "left", "random", "turns"}; // as enum memprot_side has them
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (is_value(text, length, names[i])) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool read_number(const char *text, size_t length, uint64_t least, uint64_t most, uint64_t *ret) {
    uint64_t number = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || number > most / 10)
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *ret = number;
    return length > 0 && number >= least && number <= most;
}

static bool read_word(const char *word, size_t length, struct choice *choice) {
    const char *value = memchr(word, '=', length);
    if (!value)
        return false;
    size_t name = (size_t)(value++ - word), size = length - name - 1;
    if (is_value(word, name, "side"))
        return read_side(value, size, &choice->side);
    if (is_value(word, name, "sample"))
        return read_number(value, size, 1, UINT32_MAX / 2, &choice->sample);
    if (is_value(word, name, "quarantine"))
        return read_number(value, size, 0, SIZE_MAX, &choice->quarantine);
    return is_value(word, name, "align") && read_number(value, size, 1, memprot_page_size(), &choice->align) &&
           (choice->align & (choice->align - 1)) == 0;
}

const char *memprot_malloc_settings_read(const char *words) {
    struct choice choice = {.sample = 1, .side = MEMPROT_SIDE_RIGHT, .align = 16};
    for (const char *word = words + strspn(words, " "); *word; word += strspn(word, " ")) {
        size_t length = strcspn(word, " ");
        if (!read_word(word, length, &choice))
            return word;
        word += length;
    }
    memprot_guard_set_quarantine((size_t)choice.quarantine);
    memprot_malloc_configure((uint32_t)choice.sample, (enum memprot_side)choice.side, (size_t)choice.align);
    return NULL;
}
