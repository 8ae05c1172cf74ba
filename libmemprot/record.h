// What is known of a fault, from the moment it happens until somebody takes it over as an exception or a
// report.
//
// Records live in a fixed table, so that a handler needs no memory. A record's state says who may touch it:
//   free -> filling   by the handler that needs one (compare-and-swap)
//   filling -> ready  by the same handler, release: all fields are written
//   ready <-> busy    by the thread that extends its own burst, or the one that takes pages back
//   ready -> claimed  by the claimer, who alone owns it from then on, and finally frees it
#pragma once

#include "block.h"
#include "hole.h"
#include "key_rights.h"
#include "overlay.h"
#include "policy.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEMPROT_RECORDS = 1024, MEMPROT_RECORD_PCS = 32, MEMPROT_RECORD_TEXT = 4096, MEMPROT_RECORD_CONTEXTS = 8 };

enum memprot_access { MEMPROT_READ, MEMPROT_WRITE, MEMPROT_EXECUTE };

/// What was found without a signal.
enum memprot_finding {
    MEMPROT_FOUND_NOTHING, // there was a signal, or the kernel made the access
    MEMPROT_FOUND_DOUBLE_FREE,
    MEMPROT_FOUND_WILD_FREE,
    MEMPROT_FOUND_SLACK, // something was written between a block and its guard
};

struct memprot_record {
    uint64_t sequence; // the order in which faults happened
    atomic_int thread; // the thread that faulted
    int signal;
    int code; // si_code
    int key;  // the protection key that forbade the access; MEMPROT_NO_KEY: none did
    enum memprot_access access;
    uintptr_t address;
    size_t size; // bytes of the access from address on; 0 unknown
    bool guard;  // the page is a guard, not memory whose protection forbids the access
    enum memprot_finding finding;
    struct memprot_block block; // what the address belongs to
    char name[16];              // the thread's, as the kernel knows it; empty for the main thread
    uint32_t pcs;
    uintptr_t pc[MEMPROT_RECORD_PCS]; // innermost first; all but the first are return addresses
    // Python's frames innermost first: a 32-bit line, then file and function, each ended by NUL.
    bool interpreted; // whether text says anything, even that there is no frame
    uint32_t text_length;
    char text[MEMPROT_RECORD_TEXT];
    // Open pages lie within [first, first + count), not necessarily all of these; none when overlay is NULL.
    // Looked at by whoever searches for pages of its own, and looked at again when the record is held.
    _Atomic(struct memprot_overlay *) overlay;
    atomic_size_t first, count;
    uint32_t folded;            // further faults of the thread that found no record of their own
    bool stack_overflow;        // the thread's stack has run out
    uint32_t depth;             // how many Python frames were on it then
    struct memprot_hole *holes; // zeros that lie over pages which the kernel cannot give; the newest first
    const char *call;    // the function through which the kernel made the access; NULL: an instruction of the program
    int64_t transferred; // how many bytes that call said it had moved
    struct memprot_ruling ruling;
    uint32_t contexts;                          // how many are known of
    uintptr_t context[MEMPROT_RECORD_CONTEXTS]; // what the thread ran code in, innermost first
    uint32_t faults; // those it stands for: the first, those that went on with the same access, those folded in
    uint64_t time;   // nanoseconds since 1970
    struct memprot_suppression *suppression; // whoever takes it over tells nobody; NULL: it is to be told
    int prot; // of the page, as mprotect(2) has it; -1 where it is not what forbade the access
    uint32_t instruction_size;
    unsigned char instruction[16]; // the bytes from the one that faulted on
    uint32_t value_size;           // 0 unknown
    unsigned char value[64];       // what would have been written at the operand's start
};

/// Who may claim a record: a thread by its id, a scope, whoever ends a scope, or whoever tells the listeners what
/// nobody raises. One that is being decided upon is nobody's.
enum { MEMPROT_OWNER_ANYONE = 0, MEMPROT_OWNER_LISTENERS = INT32_MIN, MEMPROT_OWNER_DECIDER };

/// Scopes as owners have negative numbers. May run in a signal handler.
static inline int memprot_record_owner_scope(int number) { return -number; }

/// Who may claim what was ruled upon: @p otherwise where no scope does and no listener. May run in a signal handler.
static inline int memprot_record_owner(const struct memprot_ruling *ruling, int otherwise) {
    if (ruling->policy == MEMPROT_POLICY_LOG || ruling->policy == MEMPROT_POLICY_DISCARD)
        return MEMPROT_OWNER_LISTENERS;
    return ruling->scope != 0 ? memprot_record_owner_scope(ruling->scope) : otherwise;
}

/// Whether a record, which @p owner may claim, is what is asked for.
typedef bool memprot_wanted(const struct memprot_record *record, int owner, const void *closure);
/// Whether it was ruled upon alike. May run in a signal handler.
static inline bool memprot_record_is_of(const struct memprot_record *record, const struct memprot_ruling *ruling) {
    return record->ruling.policy == ruling->policy && record->ruling.source == ruling->source &&
           record->ruling.scope == ruling->scope;
}

/// A record to fill, anyone's until it is routed, or NULL when all are in use. Some are kept back for who asks with @p
/// last_resort. May run in a signal handler.
struct memprot_record *memprot_record_begin(bool last_resort);

/// Makes a filled record visible to claimers. May run in a signal handler.
void memprot_record_publish(struct memprot_record *record);

/// Hands the record, before or after publishing, to another owner. May run in a signal handler.
void memprot_record_route(struct memprot_record *record, int owner);

/// Holds the record while its pages change; false when it has been claimed or reused since (sequence
/// differs). May run in a signal handler.
bool memprot_record_hold(struct memprot_record *record, uint64_t sequence);

/// Holds a record of @p thread, ruled alike, whose pages are those of @p overlay, or have been closed already; NULL
/// when there is none. May run in a signal handler.
struct memprot_record *memprot_record_hold_similar(int thread, const struct memprot_overlay *overlay,
                                                   const struct memprot_ruling *ruling);

/// May run in a signal handler.
void memprot_record_unhold(struct memprot_record *record);

/// Takes the oldest record that @p wanted says yes to, and closes its pages; they stay open where its policy is
/// MEMPROT_POLICY_ASK, until memprot_record_decide.
/// @param wanted is asked with a record that may change meanwhile; what it said then does not count.
/// @return NULL when there is none. The caller reads it and then calls memprot_record_free.
struct memprot_record *memprot_record_claim(memprot_wanted *wanted, const void *closure);

/// Whether an owner is none any more: a thread that has ended, a scope that is closed.
bool memprot_record_is_orphaned(int owner);

/// Closes the pages of a claimed record whose policy is MEMPROT_POLICY_ASK. Until then others may close them, and what
/// was written there is lost.
/// @param sequence the record's since it was claimed.
/// @param keep what was written stays.
/// @return 0; -1 with errno set when what was written cannot stay, because the file beneath may not be written; 1 when
/// the record was lost meanwhile, in the child of a fork, and is nobody's.
int memprot_record_decide(struct memprot_record *record, uint64_t sequence, bool keep);

/// May run in a signal handler.
void memprot_record_free(struct memprot_record *record);

/// Whether there is a record that @p wanted says yes to.
bool memprot_record_is_waiting(memprot_wanted *wanted, const void *closure);

/// Closes the pages of a thread's records: what comes next is ruled upon anew. What is undecided stays.
void memprot_record_settle(int thread);

/// How many records wait to be claimed. May run in a signal handler.
int memprot_record_waiting(void);

/// How many faults have been recorded since the process began: records stand for exactly as many, however many that
/// is. May run in a signal handler.
uint64_t memprot_record_faults(void);

/// One more fault for which a record stands that is held or being filled. May run in a signal handler.
void memprot_record_count(struct memprot_record *record);

/// Closes every open page of @p overlay in [first, first + count): the memory is going away or changing.
void memprot_record_close_pages(struct memprot_overlay *overlay, size_t first, size_t count);

/// In the child of a fork: closes all pages, keeps only the records of the surviving thread.
void memprot_record_after_fork(int parent_thread, int thread);
