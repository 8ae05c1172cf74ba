// Blocks of one size, each written to and freed at once: prints the nanoseconds that one takes of the processor.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    size_t size = strtoul(argv[1], NULL, 10);
    long rounds = strtol(argv[2], NULL, 10);
    double least = 0;
    for (int turn = 0; turn < 3; turn++) {
        clock_t start = clock();
        for (long i = 0; i < rounds; i++) {
            char *volatile block = malloc(size);
            block[0] = 1;
            free(block);
        }
        double each = (double)(clock() - start) / CLOCKS_PER_SEC * 1e9 / (double)rounds;
        least = turn == 0 || each < least ? each : least;
    }
    printf("%.2f\n", least);
    return 0;
}
