/* Strict base64. */
#ifndef SHAKE_BASE64_H
#define SHAKE_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Decode `length` characters; `to` has room for 3 of every 4, and may be `from`. Returns how many
 * bytes they are, or -1 when they are not base64 with its padding. */
int64_t base64_decode(uint8_t *to, const uint8_t *from, size_t length);

#endif
