/* Secrets that are handed out once: bearer tokens. */
#ifndef ONP_COMMON_SECRET_H
#define ONP_COMMON_SECRET_H

enum { SECRET_SIZE = 48 }; /* 4 + 43 + NUL */

/* "onp_" and 32 random bytes in base64 for URLs: nobody guesses it, and scanners for leaked secrets can know it. Any thread. */
void secret_make(char out[SECRET_SIZE]);

#endif
