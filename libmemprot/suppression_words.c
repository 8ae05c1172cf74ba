#include "suppression_words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEPARATOR = 0x1f, MOST = 1 << 20 };

static char *next_word(char **rest) {
    char *word = *rest, *end = word ? strchr(word, SEPARATOR) : NULL;
    *rest = end ? end + 1 : NULL;
    if (end)
        *end = '\0';
    return word;
}

static bool next_number(char **rest, size_t *ret) {
    char *word = next_word(rest), *end;
    if (!word || !*word)
        return false;
    *ret = strtoul(word, &end, 10);
    return !*end && *ret <= MOST;
}

static bool next_pattern(char **rest, const char **ret) {
    char *word = next_word(rest);
    *ret = word && *word == '=' ? word + 1 : NULL;
    return word != NULL;
}

static bool next_frame(char **rest, struct memprot_suppression_frame *ret) {
    char *word = next_word(rest);
    *ret = (struct memprot_suppression_frame){.any_number = word && *word == '*'};
    return word && (ret->any_number || (next_pattern(rest, &ret->library) && next_pattern(rest, &ret->function) &&
                                        next_pattern(rest, &ret->file)));
}

static bool next_suppression(char **rest, struct memprot_suppression *ret) {
    size_t kinds, accesses, count;
    if (!next_number(rest, &kinds) || !next_number(rest, &accesses) || !next_number(rest, &count))
        return false;
    struct memprot_suppression_frame *frames = calloc(count + 1, sizeof *frames);
    for (size_t i = 0; frames && i < count; i++) {
        if (!next_frame(rest, &frames[i])) {
            free(frames);
            return false;
        }
    }
    ret->kinds = (uint32_t)kinds;
    ret->accesses = (uint32_t)accesses;
    ret->count = count;
    ret->frames = frames;
    return frames != NULL;
}

struct memprot_suppressions *memprot_suppressions_read(char *text) {
    size_t count;
    errno = EINVAL;
    if (!next_number(&text, &count))
        return NULL;
    struct memprot_suppressions *made = calloc(1, sizeof *made + count * sizeof *made->of);
    for (; made && made->count < count; made->count++) {
        if (!next_suppression(&text, &made->of[made->count])) {
            errno = EINVAL;
            return NULL; // what was made of it stays: the launcher's words make sense
        }
    }
    return made;
}
