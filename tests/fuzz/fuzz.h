/* What the files of the fuzz target share. */
#ifndef SHAKE_FUZZ_H
#define SHAKE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Say what is wrong, and abort. */
void fail(const char *what);

/* Read any bytes as stored documents. */
void read_stored(const uint8_t *data, size_t size);

#endif
