#include "describe.h"

#include "stacks.h"

#include <string.h>

// May run in a signal handler.
static size_t append_utf8(char *to, size_t room, PyObject *string) {
    if (!PyUnicode_Check(string) || !PyUnicode_IS_READY(string))
        return 0;
    size_t length = 0;
    if (PyUnicode_IS_COMPACT_ASCII(string)) {
        length = (size_t)PyUnicode_GET_LENGTH(string);
        const char *text = (const char *)PyUnicode_1BYTE_DATA(string);
        if (length < room && !memchr(text, '\0', length)) {
            memcpy(to, text, length + 1);
            return length + 1;
        }
        length = 0;
    }
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(string); i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(string, i);
        char bytes[4];
        size_t count = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (count == 1) {
            bytes[0] = (char)(c ? c : '?');
        } else {
            for (size_t j = count - 1; j > 0; j--, c >>= 6)
                bytes[j] = (char)(0x80 | (c & 0x3f));
            bytes[0] = (char)((0xf00u >> count & 0xf0) | c);
        }
        if (length + count >= room)
            return 0;
        memcpy(to + length, bytes, count);
        length += count;
    }
    if (length >= room)
        return 0;
    to[length] = '\0';
    return length + 1;
}

// May run in a signal handler.
static bool append_frame(struct memprot_record *record, PyCodeObject *code, int offset) {
    char *to = record->text + record->text_length;
    size_t room = sizeof record->text - record->text_length;
    int32_t line = PyCode_Addr2Line(code, offset);
    if (room < sizeof line)
        return false;
    memcpy(to, &line, sizeof line);
    size_t used = sizeof line;
    for (int i = 0; i < 2; i++) {
        size_t added = append_utf8(to + used, room - used, i == 0 ? code->co_filename : code->co_qualname);
        if (!added)
            return false;
        used += added;
    }
    record->text_length += (uint32_t)used;
    return true;
}

// May run in a signal handler.
void memprot_describe_thread(struct memprot_record *record, PyThreadState *thread) {
    record->interpreted = true;
    for (memprot_frame *frame = memprot_top_frame(thread); frame; frame = frame->previous) {
        PyCodeObject *code = memprot_frame_code(frame);
        if (code && !append_frame(record, code, memprot_frame_offset(frame, code)))
            return;
    }
}

// May run in a signal handler.
void memprot_describe_depth(struct memprot_record *record, PyThreadState *thread) {
    record->depth = 0;
    for (memprot_frame *frame = memprot_top_frame(thread); frame; frame = frame->previous)
        record->depth += memprot_frame_code(frame) != NULL;
}

// May run in a signal handler.
void memprot_describe_stack(struct memprot_record *record, uint32_t stack) {
    PyCodeObject *code;
    int offset;
    record->text_length = 0;
    for (uint32_t depth = 0; (code = memprot_stack_frame(stack, depth, &offset)) != NULL; depth++) {
        if (!append_frame(record, code, offset))
            return;
    }
}
