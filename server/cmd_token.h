/* onpd token create|list|revoke: tokens of a data folder whose server is not running; a running one has /v1/tokens. */
#ifndef ONP_SERVER_CMD_TOKEN_H
#define ONP_SERVER_CMD_TOKEN_H

/* argv[0] is "token". Returns the exit status; says what is wrong on stderr. */
int cmd_token(int argc, char **argv);

#endif
