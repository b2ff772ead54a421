/* A policy as a file: shape, what its features are, weights, digest. The file comes from outside as far as the loader is concerned:
 * everything in it is checked before it is used. All numbers are little-endian.
 *
 *   8 bytes "ONPPOL01"; u32 features, width, layers, relations, length of the names; the names; f32 parameters, in the order of
 *   policy_parameters(); 64 hex digits of the SHA-256 of all before */
#ifndef ONP_SERVER_AGENT_POLICY_FILE_H
#define ONP_SERVER_AGENT_POLICY_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/agent/policy.h"

/* features: what each feature is, in order (any text that changes when they do). *bytes is the caller's (mem_free()). */
enum status policy_save(struct policy *policy, const char *features, uint8_t **bytes, size_t *length,
                        struct error *error);
/* STATUS_INVALID if it is no such file, was damaged, or was trained on other features than these. */
enum status policy_load(const uint8_t *bytes, size_t length, const char *features, struct policy **out,
                        struct error *error);
/* The policy that was compiled in (server/agent/weights, made by `make policy`). */
enum status policy_load_builtin(const char *features, struct policy **out, struct error *error);

#endif
