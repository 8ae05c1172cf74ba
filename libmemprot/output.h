// Writing in a signal handler, where the C library's own way may be what is broken.
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

struct output {
    int fd;
    size_t used;
    char bytes[4096];
};

// May run in a signal handler.
static inline void flush(struct output *out) {
    for (size_t done = 0; done < out->used;) {
        ssize_t written = write(out->fd, out->bytes + done, out->used - done);
        if (written < 0 && errno != EINTR)
            break; // nobody is left to be told
        done += written > 0 ? (size_t)written : 0;
    }
    out->used = 0;
}

// May run in a signal handler.
static inline void put_byte(struct output *out, char byte) {
    if (out->used == sizeof out->bytes)
        flush(out);
    out->bytes[out->used++] = byte;
}

// May run in a signal handler.
static inline void put(struct output *out, const char *text) {
    while (*text)
        put_byte(out, *text++);
}

// May run in a signal handler.
static inline void put_number(struct output *out, uint64_t number, unsigned base) {
    char digits[24];
    size_t count = 0;
    do
        digits[count++] = "0123456789abcdef"[number % base];
    while ((number /= base) != 0);
    while (count > 0)
        put_byte(out, digits[--count]);
}

// May run in a signal handler.
static inline void put_hex(struct output *out, uint64_t number) {
    put(out, "0x");
    put_number(out, number, 16);
}

// A JSON string, of UTF-8 in which lone surrogates may stand. May run in a signal handler.
static inline void put_string(struct output *out, const char *text) {
    put_byte(out, '"');
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            put_byte(out, '\\');
        if (byte >= 0x20 && byte != 0x7f) {
            put_byte(out, *text);
        } else {
            put(out, byte < 0x10 ? "\\u000" : "\\u00");
            put_number(out, byte, 16);
        }
    }
    put_byte(out, '"');
}

// May run in a signal handler.
static inline void put_member(struct output *out, const char *name, uint64_t number) {
    put(out, name);
    put_number(out, number, 10);
}

// A JSON string of hexadecimal digits. May run in a signal handler.
static inline void put_bytes(struct output *out, const char *name, const unsigned char *bytes, size_t size) {
    put(out, name);
    put_byte(out, '"');
    for (size_t i = 0; i < size; i++) {
        put_number(out, bytes[i] >> 4, 16);
        put_number(out, bytes[i] & 15, 16);
    }
    put_byte(out, '"');
}
