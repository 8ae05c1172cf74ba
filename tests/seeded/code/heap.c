// Functions that call malloc and free.
#include "seeded.h"

#include <stdlib.h>
#include <string.h>

// How many pixels are not black after an image was inverted.
int invert(int rows, int columns) {
    SEEDED(unsigned, unsigned short) bytes = rows * columns;
    unsigned char *image = malloc(bytes);
    int bright = 0;
    for (int i = 0; i < rows * columns; i++) {
        image[i] = 255;
        bright += image[i] != 0;
    }
    free(image);
    return bright;
}

// A caller that asks for nothing gets the error path.
int parse(int n) {
    char *text = malloc(64);
    memset(text, n, 64);
    int status = text[0];
    if (status == 0)
        SEEDED((void)0, free(text));
    free(text);
    return status;
}

enum { HEADER = 8 };

// The text begins behind a header.
int release_text(void) {
    char *block = malloc(HEADER + 56);
    char *text = block + HEADER;
    memset(text, 'a', 56);
    int first = text[0];
    free(SEEDED(text - HEADER, text));
    return first;
}

struct node {
    long key;
    struct node *next;
};

static struct node *list(int n) {
    struct node *head = NULL;
    for (int i = 0; i < n; i++) {
        struct node *node = malloc(sizeof *node);
        *node = (struct node){i, head};
        head = node;
    }
    return head;
}

void free_list(int n) {
    struct node *node = list(n);
    while (node) {
        struct node *next = node->next;
        free(node);
        node = SEEDED(next, node->next);
    }
}

// A buffer grows while a pointer into it is kept.
int grow(void) {
    int *items = malloc(16 * sizeof *items);
    int *last = &items[15];
    items = realloc(items, 4096 * sizeof *items);
    *SEEDED(&items[15], last) = 7;
    int result = items[15];
    free(items);
    return result;
}

int duplicate(const char *name) {
    size_t length = strlen(name);
    char *copy = malloc(SEEDED(length + 1, length));
    for (size_t i = 0; i <= length; i++)
        copy[i] = name[i];
    int first = copy[0];
    free(copy);
    return first;
}
