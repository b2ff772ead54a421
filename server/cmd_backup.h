/* onpd backup DIR, onpd restore DIR: a store copied out, while its server runs, and back. */
#ifndef ONP_SERVER_CMD_BACKUP_H
#define ONP_SERVER_CMD_BACKUP_H

/* argv[0] is "backup" or "restore". Returns the exit status. */
int cmd_backup(int argc, char **argv);

#endif
