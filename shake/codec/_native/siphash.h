/* Keyed digests: without the seed, no two texts with one digest can be found. */
#ifndef SHAKE_SIPHASH_H
#define SHAKE_SIPHASH_H

#include "work.h"

enum { SEED_LENGTH = 16, DIGEST_LENGTH = 16 };

struct seed {
    uint64_t first, second;
};

struct digest {
    uint64_t low, high;
};

/* SipHash-2-4 with 128 bits. Texts of another kind have another `tag`, which changes the key. */
struct digest siphash(const struct seed *seed, uint32_t tag, const uint8_t *data, size_t length);

static inline bool same_digest(const struct digest *one, const struct digest *other)
{
    return one->low == other->low && one->high == other->high;
}

static inline void put_digest(uint8_t *to, const struct digest *digest)
{
    put64(to, digest->low);
    put64(to + 8, digest->high);
}

#endif
