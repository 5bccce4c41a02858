/* Tells which documents of a page have one stored document each that says the same. */
#ifndef SHAKE_MATCHER_H
#define SHAKE_MATCHER_H

#include "digest.h"

/* A document of the page. */
struct expected {
    struct digest key;
    uint32_t start;
    uint8_t copies; /* stored documents of its key, 2 for more than one */
    bool equal;     /* one of them says the same */
};

struct matcher {
    struct seed seed;
    struct key_form ours, stored; /* of the page's documents, and of the stored ones */
    struct bytes documents;       /* of the page */
    struct expected *expected;
    size_t count;
    uint32_t *table; /* of expected ones by the digests of their keys, counted from 1 */
    size_t table_size;
};

/* Read the documents of the page; false where they are none, or without memory: `no_memory`. In
 * any case: `free_matcher`. */
bool read_expected(struct matcher *m, const char **reason);
void free_matcher(struct matcher *m);

/* Match stored documents; false where they are none. */
bool match(struct matcher *m, struct bytes stored);

/* Whether a document has exactly one stored one, and that says the same. */
static inline bool is_matched(const struct expected *e)
{
    return e->copies == 1 && e->equal;
}

/* Bytes that `put_filter` writes at most. */
size_t filter_room(const struct matcher *m, size_t first, size_t last);

/* Write, into that much room, the filter that selects the stored documents of those from `first` to
 * before `last`. `scanned`: a Scan without a filter gave them, so that all partitions but the first
 * and the last are there as a whole. */
void put_filter(const struct matcher *m, struct work *w, size_t first, size_t last, bool scanned);

#endif
