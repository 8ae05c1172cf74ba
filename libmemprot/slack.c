#include "slack.h"

#include "access.h"
#include "page.h"

#include <string.h>

// Neither what strings end with, nor -1, nor a printable character.
enum { PATTERN = 0xd7, AT_ONCE = 1024 };

// The C library writes and compares few bytes by one masked access, even none at all. Where the bytes that the mask
// leaves out lie in a guard, the processor takes several times as long for it as for the whole block.
enum { BYTE_BY_BYTE = 64 };

uintptr_t memprot_slack_end(uintptr_t stop) { return memprot_page_ceil(stop); }

void memprot_slack_fill(uintptr_t stop) {
    size_t size = memprot_slack_end(stop) - stop;
    volatile unsigned char *bytes = (volatile unsigned char *)stop; // or the compiler makes a memset of it
    if (size >= BYTE_BY_BYTE) {
        memset((void *)stop, PATTERN, size);
        return;
    }
    for (size_t i = 0; i < size; i++)
        bytes[i] = PATTERN;
}

static bool is_intact(const unsigned char *bytes, size_t size) {
    if (size >= BYTE_BY_BYTE)
        return bytes[0] == PATTERN && memcmp(bytes, bytes + 1, size - 1) == 0;
    size_t i = 0;
    while (i < size && bytes[i] == PATTERN)
        i++;
    return i == size;
}

static void look_closely(const unsigned char *bytes, uintptr_t address, size_t size, struct memprot_overwritten *ret) {
    size_t first = 0, stop = size;
    while (first < size && bytes[first] == PATTERN)
        first++;
    while (stop > first && bytes[stop - 1] == PATTERN)
        stop--;
    if (first == stop)
        return;
    if (ret->size == 0)
        ret->address = address + first;
    size_t at = address + first - ret->address;
    for (size_t i = first; i < stop && at < sizeof ret->bytes; i++, at++)
        ret->bytes[at] = bytes[i];
    ret->size = address + stop - ret->address;
}

void memprot_slack_look(uintptr_t stop, bool wary, struct memprot_overwritten *ret) {
    uintptr_t end = memprot_slack_end(stop);
    ret->size = 0;
    if (!wary && is_intact((const unsigned char *)stop, end - stop))
        return;
    memset(ret->bytes, PATTERN, sizeof ret->bytes);
    for (uintptr_t at = stop; at < end;) {
        unsigned char copy[AT_ONCE];
        size_t size = end - at < sizeof copy ? end - at : sizeof copy;
        if (memprot_access_copy(copy, (const void *)at, size) > 0) {
            ret->size = 0;
            return;
        }
        if (!is_intact(copy, size))
            look_closely(copy, at, size, ret);
        at += size;
    }
}

void memprot_slack_mend(const struct memprot_overwritten *overwritten) {
    unsigned char pattern[AT_ONCE];
    memset(pattern, PATTERN, sizeof pattern);
    for (size_t done = 0; done < overwritten->size;) {
        size_t left = overwritten->size - done, size = left < sizeof pattern ? left : sizeof pattern;
        if (memprot_access_copy((void *)(overwritten->address + done), pattern, size) > 0)
            return;
        done += size;
    }
}
