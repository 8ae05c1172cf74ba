// What is known of a fault, as JSON for the reporter process, or in a few lines for a reader.
#pragma once

#include "output.h"
#include "record.h"

#include <ucontext.h>

/// What the core does not know, from whoever knows the interpreter in the process. Each member is called in a signal
/// handler, and may be NULL.
struct memprot_evidence_source {
    /// Fills the text of a record with the frames of a stack that the allocator's user has numbered.
    void (*describe_stack)(struct memprot_record *record, uint32_t stack);
    /// Writes the interpreter's threads: {"id": ..., "python": frames}, separated by commas.
    void (*put_threads)(struct output *out);
};

/// Who is asked from now on.
void memprot_evidence_ask(const struct memprot_evidence_source *source);

/// The frames in a record's text: [[file, line, function], ...]. May run in a signal handler.
void memprot_evidence_put_frames(struct output *out, const struct memprot_record *record);

/// What was guarded so far: "guarded": ... May run in a signal handler.
void memprot_evidence_put_guarded(struct output *out);

/// One JSON object. @p context may be NULL where there was no signal. May run in a signal handler.
void memprot_evidence_put(struct output *out, const struct memprot_record *record, const ucontext_t *context);

/// The same for who has no reporter. @p owned: memprot answers for the memory. May run in a signal handler.
void memprot_evidence_put_plainly(struct output *out, const struct memprot_record *record, bool owned);
