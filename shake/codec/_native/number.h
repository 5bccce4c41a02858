/* DynamoDB numbers to BSON. */
#ifndef SHAKE_NUMBER_H
#define SHAKE_NUMBER_H

#include "work.h"

/* Write the number whose text begins here, behind a quote, without loss; set its type. Reads the
 * closing quote, too. 16 bytes are reserved before. */
struct at put_exact(struct work *w, struct at at, uint8_t *type);

/* Likewise, as the nearest double; leaves `w->kept`. */
struct at put_nearest(struct work *w, struct at at, uint8_t *type);

#endif
