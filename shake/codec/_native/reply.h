/* A server's answer with documents: these one behind the other, and the answer without them. */
#ifndef SHAKE_REPLY_H
#define SHAKE_REPLY_H

#include "stored.h"

/* Places in an answer. */
struct batch {
    struct bytes cursor, array; /* values; the array has no data where there is none */
};

/* Find the batch of a cursor; false where the answer is broken. */
bool find_batch(struct bytes reply, struct batch *batch);

/* Bytes that `cut_batch` writes of the answer. */
static inline size_t rest_size(const struct bytes *reply, const struct batch *batch)
{
    return reply->length - batch->array.length + 5;
}

/* Write the answer with an empty array, and the documents into as many bytes as the array has;
 * `size` is what they take. False where the array holds something else. */
bool cut_batch(struct bytes reply, const struct batch *batch, uint8_t *rest, uint8_t *documents,
               size_t *size);

#endif
