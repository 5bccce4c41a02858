/* What the files of the Python binding of what compares share. */
#ifndef SHAKE_MODULE_CHECK_H
#define SHAKE_MODULE_CHECK_H

#include "binding.h"

#include "matcher.h"

/* A sum for each bucket; see shake.codec.contract.Digests. */
struct sums {
    uint64_t *buckets;
    size_t count;
};

/* Each is false with an exception set. */
bool take_form(struct key_form *form, PyObject *arguments);
bool take_seed(struct seed *seed, const char *data, Py_ssize_t length);
bool take_sums(struct sums *sums, const Py_buffer *buffer);

static inline struct bytes whole(const Py_buffer *buffer)
{
    return bytes_of(buffer->buf, buffer->len);
}

static inline size_t bucket_of(const struct digest *digest, size_t count)
{
    return digest->high & (count - 1);
}

static inline void add(struct sums *sums, const struct digest *digest)
{
    sums->buckets[bucket_of(digest, sums->count)] += digest->low;
}

#endif
