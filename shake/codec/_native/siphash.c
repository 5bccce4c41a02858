/* Source: https://www.aumasson.jp/siphash/siphash.pdf */
#include "siphash.h"

struct state {
    uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static inline void mix(struct state *s, unsigned rounds)
{
    while (rounds-- > 0) {
        s->a += s->b;
        s->c += s->d;
        s->b = rotate(s->b, 13) ^ s->a;
        s->d = rotate(s->d, 16) ^ s->c;
        s->a = rotate(s->a, 32) + s->d;
        s->c += s->b;
        s->d = rotate(s->d, 21) ^ s->a;
        s->b = rotate(s->b, 17) ^ s->c;
        s->c = rotate(s->c, 32);
    }
}

static inline void take(struct state *s, uint64_t word)
{
    s->d ^= word;
    mix(s, 2);
    s->a ^= word;
}

static inline uint64_t give(struct state *s)
{
    mix(s, 4);
    return s->a ^ s->b ^ s->c ^ s->d;
}

struct digest siphash(const struct seed *seed, uint32_t tag, const uint8_t *data, size_t length)
{
    uint64_t first = seed->first ^ tag, second = seed->second, last = (uint64_t)length << 56;
    struct state s = {first ^ 0x736f6d6570736575u, second ^ 0x646f72616e646f6du ^ 0xee,
                      first ^ 0x6c7967656e657261u, second ^ 0x7465646279746573u};
    const uint8_t *end = data + length / 8 * 8;
    for (; data < end; data += 8)
        take(&s, get64(data));
    for (unsigned i = 0; i < length % 8; i++)
        last |= (uint64_t)data[i] << 8 * i;
    take(&s, last);
    struct digest digest;
    s.c ^= 0xee;
    digest.low = give(&s);
    s.b ^= 0xdd;
    digest.high = give(&s);
    return digest;
}
