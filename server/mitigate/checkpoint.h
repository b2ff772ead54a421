/* The checkpoint of a job: a journal of what was dear to compute. A job is a pure function of its inputs and draws all its chance
 * from its seed, so one that runs again asks for the same inversions, scores and retunings in the same order; those that the journal
 * holds are recalled instead of computed, everything between them (policy, optimiser, generators, best mask, curve) comes about
 * again by itself. A resumed job therefore ends with the same result as an undisturbed one, to the bit, wherever it was cut.
 *
 * The file: a header that binds it to the job, then records, each with a key of what was asked and a checksum that covers all
 * before it. What a crash cut off, or anything that does not fit, ends the recall there and is overwritten. One thread at a time. */
#ifndef ONP_SERVER_MITIGATE_CHECKPOINT_H
#define ONP_SERVER_MITIGATE_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/error.h"

struct checkpoint;

enum checkpoint_kind { CHECKPOINT_INVERSION = 1, CHECKPOINT_SCORE, CHECKPOINT_RETUNE };

/* Opens the journal at `path`, made if missing. `binding`: text of everything the results depend on; a file bound to another
 * text, of another version of the format, or that is damaged, is begun anew. max_bytes: it records no more beyond this. */
enum status checkpoint_open(const char *path, const char *binding, uint64_t max_bytes, struct checkpoint **out,
                            struct error *error);
void checkpoint_close(struct checkpoint *checkpoint);

/* true: the next record is of this kind, key and size, and its bytes are in `result`. false: it must be computed. */
bool checkpoint_recall(struct checkpoint *checkpoint, enum checkpoint_kind kind, const char key[DIGEST_HEX_SIZE],
                       void *result, size_t size);
/* Appends a record. A disk that refuses ends the recording, not the job. */
void checkpoint_keep(struct checkpoint *checkpoint, enum checkpoint_kind kind, const char key[DIGEST_HEX_SIZE],
                     const void *result, size_t size);
/* Brings what was kept to disk, so that it outlives a power cut as well. */
void checkpoint_sync(struct checkpoint *checkpoint);

/* Records recalled and kept since it was opened. */
size_t checkpoint_recalled(const struct checkpoint *checkpoint);
size_t checkpoint_kept(const struct checkpoint *checkpoint);

#endif
