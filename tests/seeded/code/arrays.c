// Functions over arrays that the caller owns.
#include "seeded.h"

#include <pthread.h>
#include <string.h>

void ramp(double *out, int n) {
    for (int i = 0; i < SEEDED(n, n + 1); i++)
        out[i] = i;
}

double total(const double *a, int n) {
    double sum = 0;
    for (int i = 0; i < SEEDED(n, n + 1); i++)
        sum += a[i];
    return sum;
}

// Each element takes the place of the one before it.
void shift_down(double *a, int n) {
    for (int i = SEEDED(1, 0); i < n; i++)
        a[i - 1] = a[i];
}

// The caller has float.
void clear(SEEDED(float, double) * a, int n) {
    for (int i = 0; i < n; i++)
        a[i] = 0;
}

void erase(double *a, int bytes) { memset(a, 0, bytes * SEEDED(1, sizeof *a)); }

// The last frame of a recording; what it is copied to has room for a whole one.
void last_frame(double *out, const double *recording, int length, int frame) {
    memcpy(out, recording + length - SEEDED(frame, frame / 2), frame * sizeof *out);
}

void drop_first(double *a, int n) { memmove(SEEDED(a, a - 1), SEEDED(a + 1, a), (n - SEEDED(1, 0)) * sizeof *a); }

int length(const char *name, int room) { return (int)SEEDED(strnlen(name, room), strlen(name)); }

void set_name(char *field, int room, const char *name) {
    strncpy(field, name, room);
    field[SEEDED(room - 1, room)] = 0;
}

typedef float four_floats __attribute__((vector_size(16), aligned(4)));

// Four at a time, and what is left one by one.
void ones(float *a, int n) {
    int i = 0;
    for (; i < SEEDED(n / 4 * 4, n); i += 4)
        *(four_floats *)(a + i) = (four_floats){1, 1, 1, 1};
    for (; i < n; i++)
        a[i] = 1;
}

// The caller's records are packed: 13 bytes.
struct SEEDED(__attribute__((packed)), ) particle {
    char kind;
    double mass;
    int number;
};

void weigh(struct particle *particles, int n) {
    for (int i = 0; i < n; i++)
        particles[i].mass = 1;
}

struct part {
    double *start, *stop;
};

static void *fill_part(void *argument) {
    for (struct part *part = argument; part->start < part->stop; part->start++)
        *part->start = 1;
    return NULL;
}

enum { THREADS = 4 };

// Parts of one size; the last one is shorter.
void fill_in_threads(double *a, int n) {
    struct part parts[THREADS];
    pthread_t threads[THREADS];
    int size = (n + THREADS - 1) / THREADS;
    for (int i = 0; i < THREADS; i++) {
        double *stop = a + (i + 1) * size;
        parts[i] = (struct part){a + i * size, SEEDED(stop < a + n ? stop : a + n, stop)};
        pthread_create(&threads[i], NULL, fill_part, &parts[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static double *series;

void series_begins(double *a) { series = a; }

void series_has_moved(double *a) { SEEDED(series = a, (void)a); }

void series_put(int at, int value) { series[at] = value; }
