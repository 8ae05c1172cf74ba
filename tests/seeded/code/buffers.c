// Functions over buffers that belong to Python's own objects.
#include "seeded.h"

// Ends a line as a terminal wants it, in the last two bytes.
void end_line(char *line, int n) {
    char *end = line + SEEDED(n - 2, n);
    end[0] = '\r';
    end[1] = '\n';
}

void count_up(int *a, int n) {
    for (int i = 0; i < SEEDED(n, n + 1); i++)
        a[i] = i;
}

enum { CHECK = 2 };

// The two bytes of the checksum are part of the message.
int checksum(const unsigned char *message, int n) {
    int sum = 0;
    for (int i = 0; i < SEEDED(n, n + CHECK); i++)
        sum += message[i];
    return sum;
}

// The table is mapped from a file that nobody may write.
int lower(char *table, int at) {
    char letter = table[at];
    SEEDED(letter |= 0x20, table[at] |= 0x20);
    return letter;
}
