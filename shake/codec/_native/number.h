/* DynamoDB numbers to BSON. */
#ifndef SHAKE_NUMBER_H
#define SHAKE_NUMBER_H

#include "work.h"

/* Write the number whose text begins at p, behind a quote, without loss; set its type. Returns
 * behind the closing quote. */
const uint8_t *put_exact(struct work *w, const uint8_t *p, size_t type_at);

/* Likewise, as the nearest double; leaves `w->kept`. */
const uint8_t *put_nearest(struct work *w, const uint8_t *p, size_t type_at);

#endif
