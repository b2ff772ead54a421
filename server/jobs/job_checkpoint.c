/* Checkpoints between attempts. While an attempt runs, the child writes one into its folder (mitigate/checkpoint.h); in between it
 * waits in <data>/checkpoints/<job>. Nothing in the database depends on it: one that is lost costs time only. */
#include "server/jobs/job_checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "server/mitigate/mitigate.h"

/* The child is not trusted: a link could point at a file of ours. */
static bool is_own_file(const char *path, off_t *size) {
    struct stat info;
    *size = 0;
    if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1) {
        return false;
    }
    *size = info.st_size;
    return true;
}

static bool paths_of(const struct jobs *jobs, const char *job_id, const char *folder, char waiting[STORE_PATH_SIZE],
                     char working[STORE_PATH_SIZE]) {
    return file_join(waiting, STORE_PATH_SIZE, jobs->checkpoints_dir, job_id, NULL) == STATUS_OK &&
           (folder == NULL || file_join(working, STORE_PATH_SIZE, folder, MITIGATE_CHECKPOINT, NULL) == STATUS_OK);
}

bool job_checkpoint_take(const struct jobs *jobs, const char *job_id, const char *folder) {
    char waiting[STORE_PATH_SIZE], working[STORE_PATH_SIZE];
    return paths_of(jobs, job_id, folder, waiting, working) && rename(waiting, working) == 0;
}

void job_checkpoint_put_back(const struct jobs *jobs, const char *job_id, const char *folder) {
    char waiting[STORE_PATH_SIZE], working[STORE_PATH_SIZE];
    off_t new_size, old_size;
    if (!paths_of(jobs, job_id, folder, waiting, working) || !is_own_file(working, &new_size)) {
        return;
    }
    if (is_own_file(waiting, &old_size) && old_size > new_size) {
        return; /* of a later attempt, which got further */
    }
    if (rename(working, waiting) != 0) {
        char reason[64];
        log_event(LOG_WARN, "checkpoint_lost", "job %s starts from its beginning: %s", job_id,
                  strerror_r(errno, reason, sizeof reason));
    }
}

void job_checkpoint_drop(const struct jobs *jobs, const char *job_id) {
    char waiting[STORE_PATH_SIZE], unused[STORE_PATH_SIZE];
    if (paths_of(jobs, job_id, NULL, waiting, unused)) {
        (void)unlink(waiting);
    }
}

/* The job of a folder "<job>-<attempt>". */
static bool job_of_folder(const char *name, char job_id[ID_SIZE]) {
    const char *dash = strrchr(name, '-');
    const size_t length = dash != NULL ? (size_t)(dash - name) : 0;
    if (length == 0 || length >= ID_SIZE) {
        return false;
    }
    memcpy(job_id, name, length);
    job_id[length] = '\0';
    return id_is_valid(job_id, "job");
}

enum status job_checkpoint_salvage(struct jobs *jobs, struct error *error) {
    enum status status = file_join(jobs->checkpoints_dir, sizeof jobs->checkpoints_dir, store_data_dir(jobs->store),
                                   "checkpoints", error);
    if (status == STATUS_OK) {
        status = file_make_dir(jobs->checkpoints_dir, error);
    }
    DIR *folders = status == STATUS_OK ? opendir(jobs->attempts_dir) : NULL;
    for (const struct dirent *entry; folders != NULL && (entry = readdir(folders)) != NULL;) {
        char job_id[ID_SIZE], folder[STORE_PATH_SIZE];
        if (job_of_folder(entry->d_name, job_id) &&
            file_join(folder, sizeof folder, jobs->attempts_dir, entry->d_name, NULL) == STATUS_OK) {
            job_checkpoint_put_back(jobs, job_id, folder);
        }
    }
    if (folders != NULL) {
        (void)closedir(folders);
    }
    return status;
}

/* Whether the job may still run. When in doubt it may. */
static bool is_live(struct jobs *jobs, const char *job_id) {
    struct store_job job;
    const enum status status = store_job_find(jobs->store, job_id, &job, NULL);
    if (status != STATUS_OK) {
        return status != STATUS_NOT_FOUND;
    }
    const bool live = !job_state_is_terminal(job.state);
    store_job_deinit(&job);
    return live;
}

void job_checkpoint_clean(struct jobs *jobs) {
    DIR *files = opendir(jobs->checkpoints_dir);
    for (const struct dirent *entry; files != NULL && (entry = readdir(files)) != NULL;) {
        if (id_is_valid(entry->d_name, "job") && !is_live(jobs, entry->d_name)) {
            job_checkpoint_drop(jobs, entry->d_name);
        }
    }
    if (files != NULL) {
        (void)closedir(files);
    }
}
