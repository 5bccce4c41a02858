/* JSON strings to UTF-8. */
#ifndef SHAKE_TEXT_H
#define SHAKE_TEXT_H

#include "work.h"

/* Bytes that are looked at together, and the most of one character. */
enum { CHUNK = 16, CHUNKS = 2 * CHUNK, CHARACTER = 4 };

/* Copy the one character here that is not plain: an escape, or beyond ASCII. */
struct at copy_special(struct work *w, struct at at);

/* Printable ASCII that JSON does not escape. */
static inline bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

#define EACH(byte) (0x0101010101010101u * (uint64_t)(byte))

/* The high bit of each byte below `limit`; of those behind the first such byte maybe too. */
static inline uint64_t mark_below(uint64_t bytes, uint8_t limit)
{
    return (bytes - EACH(limit)) & ~bytes & EACH(0x80);
}

/* The high bit of each byte that is not plain; of those behind the first such byte maybe too. */
static inline uint64_t mark_special(uint64_t bytes)
{
    return mark_below(bytes, 0x20) | mark_below(bytes ^ EACH('"'), 1) |
           mark_below(bytes ^ EACH('\\'), 1) | (bytes & EACH(0x80));
}

#ifdef SHAKE_SSE2

/* Copy CHUNK bytes; a bit of each that is not plain. */
static inline unsigned copy_marked(uint8_t *to, const uint8_t *from)
{
    __m128i chunk = _mm_loadu_si128((const __m128i *)from);
    _mm_storeu_si128((__m128i *)to, chunk);
    /* As signed bytes, all beyond ASCII are below 0x20 too. */
    __m128i special = _mm_or_si128(_mm_cmpgt_epi8(_mm_set1_epi8(0x20), chunk),
                                   _mm_or_si128(_mm_cmpeq_epi8(chunk, _mm_set1_epi8('"')),
                                                _mm_cmpeq_epi8(chunk, _mm_set1_epi8('\\'))));
    return (unsigned)_mm_movemask_epi8(special);
}

/* How many of the next CHUNK bytes are plain, up to the first that is not. All are copied. */
static inline unsigned copy_chunk(uint8_t *to, const uint8_t *from)
{
    return (unsigned)__builtin_ctz(copy_marked(to, from) | 1u << CHUNK);
}

/* The same of CHUNKS bytes. */
static inline unsigned copy_chunks(uint8_t *to, const uint8_t *from)
{
    unsigned mask = copy_marked(to, from);
    mask |= copy_marked(to + CHUNK, from + CHUNK) << CHUNK;
    return mask ? (unsigned)__builtin_ctz(mask) : CHUNKS;
}

#else

static inline unsigned copy_chunk(uint8_t *to, const uint8_t *from)
{
    memcpy(to, from, CHUNK);
    for (unsigned at = 0; at < CHUNK; at += 8) {
        uint64_t special = mark_special(get64(from + at));
        if (special)
            return at + (unsigned)__builtin_ctzll(special) / 8;
    }
    return CHUNK;
}

static inline unsigned copy_chunks(uint8_t *to, const uint8_t *from)
{
    unsigned plain = copy_chunk(to, from);
    return plain < CHUNK ? plain : CHUNK + copy_chunk(to + CHUNK, from + CHUNK);
}

#endif

/* As copy_text, of any length, with anything in it. */
struct at copy_any_text(struct work *w, struct at at);

/* Copy a string, from behind its opening quote to behind its closing one, as UTF-8 with a closing
 * 0. */
static inline struct at copy_text(struct work *w, struct at at)
{
    if (w->end - at.in >= CHUNK && w->limit - at.out > CHUNK) {
        unsigned plain = copy_chunk(at.out, at.in);
        at.in += plain;
        at.out += plain;
        if (*at.in == '"') {
            *at.out = 0;
            return (struct at){at.in + 1, at.out + 1};
        }
    }
    return copy_any_text(w, at);
}

#endif
