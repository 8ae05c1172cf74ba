#include "summary.h"

#include "guard.h"

// With commas between groups of three digits. May run in a signal handler.
static void put_grouped(struct output *out, uint64_t number) {
    if (number >= 1000) {
        put_grouped(out, number / 1000);
        put_byte(out, ',');
        number %= 1000;
        put(out, number < 10 ? "00" : number < 100 ? "0" : "");
    }
    put_number(out, number, 10);
}

// May run in a signal handler.
static void put_bytes_of_memory(struct output *out, uint64_t bytes) {
    static const char *const units[] = {" KiB", " MiB", " GiB", " TiB"};
    if (bytes < 1024) {
        put_number(out, bytes, 10);
        put(out, bytes == 1 ? " byte" : " bytes");
        return;
    }
    size_t unit = 0;
    uint64_t tenths = (bytes * 10 + 512) / 1024;
    while (tenths >= 10240 && unit + 1 < sizeof units / sizeof *units) {
        tenths = (tenths + 512) / 1024;
        unit++;
    }
    put_number(out, tenths / 10, 10);
    put_byte(out, '.');
    put_number(out, tenths % 10, 10);
    put(out, units[unit]);
}

// May run in a signal handler.
static void put_faults(struct output *out, uint64_t faults, uint64_t distinct) {
    if (faults == 0) {
        put(out, "no faults");
        return;
    }
    put_grouped(out, faults);
    put(out, faults == 1 ? " fault" : " faults");
    if (faults == 1)
        return;
    put(out, ", ");
    if (distinct == 1) {
        put(out, "all alike");
    } else {
        put_grouped(out, distinct);
        put(out, " of them distinct");
    }
}

// May run in a signal handler.
void memprot_summary_put(struct output *out, uint64_t faults, uint64_t distinct) {
    struct memprot_guard_statistics guarded;
    memprot_guard_peek_statistics(MEMPROT_GUARD_MALLOC, &guarded);
    put(out, "memprot: ");
    put_faults(out, faults, distinct);
    put(out, ". ");
    if (guarded.blocks == 0) {
        put(out, "No block of malloc was guarded: there was none.\n");
        return;
    }
    put_grouped(out, guarded.blocks);
    put(out, guarded.blocks == 1 ? " block of malloc was guarded, " : " blocks of malloc were guarded, ");
    put_bytes_of_memory(out, guarded.bytes);
    put(out, " in all, for ");
    put_bytes_of_memory(out, guarded.peak_overhead);
    put(out, " of memory at most.\n");
    if (guarded.refused > 0) {
        put(out, "memprot: ");
        put_grouped(out, guarded.refused);
        put(out, guarded.refused == 1 ? " block was left without a guard.\n" : " blocks were left without a guard.\n");
    }
}
