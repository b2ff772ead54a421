/* What a child of a job gives up before it touches anything that a user sent.
 *
 * Walls: limits of resources, no new privileges, a user of its own, Landlock (its inputs are read, its folder is written,
 * nothing else is opened), a list of system calls (anything else ends the process with SIGSYS). */
#ifndef ONP_SERVER_JOBS_JOB_SANDBOX_H
#define ONP_SERVER_JOBS_JOB_SANDBOX_H

#include <stdbool.h>

#include "common/error.h"
#include "server/jobs/job_message.h"

/* What this kernel, and the rights that we have, allow. */
struct job_walls {
    int landlock;       /* its ABI; 0: none */
    bool calls;         /* seccomp can end a process */
    bool user;          /* children can get a user of their own */
    bool address_space; /* memory can be limited; not in builds with a sanitizer that reserves terabytes */
};

/* Asks without applying anything. Any thread. */
void job_sandbox_probe(uint32_t uid, struct job_walls *walls);

enum { JOB_SANDBOX_FILES = 4, JOB_SANDBOX_NAME = 32 };

/* The files that stay open behind the walls, and the names by which they are reached. */
struct job_sandbox {
    struct {
        int fd;
        bool folder;
        char name[JOB_SANDBOX_NAME];
    } files[JOB_SANDBOX_FILES];
    size_t count;
};

/* Called first of all: the child must not outlive the thread that started it. */
enum status job_sandbox_follow_parent(struct error *error);
/* Called once by the child, while it has one thread, after the request is read and before it is carried out. Opens what the
 * request names and replaces those paths by names in *sandbox, which must outlive the request; then raises the walls.
 * STATUS_UNSUPPORTED if one is missing and the mode is JOB_SANDBOX_REQUIRE. */
enum status job_sandbox_enter(struct job_sandbox *sandbox, struct job_request *request, struct error *error);

/* --- job_sandbox_files.c --- */
enum status job_sandbox_open(struct job_sandbox *sandbox, struct job_request *request, struct error *error);
int job_sandbox_landlock_abi(void);
/* abi: above 0. No new privileges must be set. */
enum status job_sandbox_close_files(const struct job_sandbox *sandbox, int abi, struct error *error);

/* --- job_sandbox_calls.c --- */
bool job_sandbox_has_calls(void);
enum status job_sandbox_close_calls(bool jit, struct error *error);

#endif
