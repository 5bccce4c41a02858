/* Strict base64. */
#ifndef SHAKE_BASE64_H
#define SHAKE_BASE64_H

#include "work.h"

/* Decode `length` characters; `to` has room for as many bytes, and may be `from`. Returns how many
 * bytes they are, or -1 when they are not base64 with its padding. */
int64_t base64_decode(uint8_t *to, const uint8_t *from, size_t length);

/* Decode groups of 4 characters, up to the first that is none, that is padded, or that finds no
 * room for 4 bytes; returns how many. */
size_t base64_groups(uint8_t *to, size_t room, const uint8_t *from, size_t length);

#endif
