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

/* The bytes of all documents; false where the array holds something else. */
bool find_size(const struct batch *batch, size_t *size);

/* Write the answer with an empty array, and the documents, whose size `find_size` has found. */
void cut_batch(struct bytes reply, const struct batch *batch, uint8_t *rest, uint8_t *documents);

#endif
