/* JSON strings to UTF-8. */
#ifndef SHAKE_TEXT_H
#define SHAKE_TEXT_H

#include "work.h"

#if defined(__SSE2__) && !defined(SHAKE_PORTABLE)
#include <emmintrin.h>
#endif

/* Bytes that are looked at together, and room that one step of copy_text needs. */
enum { CHUNK = 16, STEP = 2 * CHUNK };

/* Copy the one character at p that is not plain: an escape, or beyond ASCII. At most 4 bytes. */
const uint8_t *copy_special(struct work *w, const uint8_t *p);

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

/* How many of the next CHUNK bytes are plain, up to the first that is not. All are copied. */
static inline unsigned copy_chunk(uint8_t *to, const uint8_t *from)
{
#if defined(__SSE2__) && !defined(SHAKE_PORTABLE)
    __m128i chunk = _mm_loadu_si128((const __m128i *)from);
    _mm_storeu_si128((__m128i *)to, chunk);
    /* As signed bytes, all beyond ASCII are below 0x20 too. */
    __m128i special = _mm_or_si128(_mm_cmplt_epi8(chunk, _mm_set1_epi8(0x20)),
                                   _mm_or_si128(_mm_cmpeq_epi8(chunk, _mm_set1_epi8('"')),
                                                _mm_cmpeq_epi8(chunk, _mm_set1_epi8('\\'))));
    unsigned mask = (unsigned)_mm_movemask_epi8(special);
    return mask ? (unsigned)__builtin_ctz(mask) : CHUNK;
#else
    memcpy(to, from, CHUNK);
    for (unsigned at = 0; at < CHUNK; at += 8) {
        uint64_t special = mark_special(get64(from + at));
        if (special)
            return at + (unsigned)__builtin_ctzll(special) / 8;
    }
    return CHUNK;
#endif
}

/* Copy a string, from behind its opening quote to behind its closing one, as UTF-8 with a closing
 * 0. So many bytes before it are left to the caller. */
static inline const uint8_t *copy_text(struct work *w, const uint8_t *p, unsigned before)
{
    if (!reserve(w, before + STEP))
        return NULL;
    uint8_t *out = w->out + before; /* here, since a write to bytes may change all of *w */
    for (;;) {
        if (w->end - p >= CHUNK) {
            unsigned plain = copy_chunk(out, p);
            p += plain;
            out += plain;
            if (plain == CHUNK && w->limit - out >= STEP)
                continue;
        } else {
            while (is_plain(*p)) /* fewer than CHUNK: the 0 at the end is not */
                *out++ = *p++;
        }
        if (*p == '"')
            break;
        w->out = out;
        /* What is left of the step is enough for 4 of them. */
        for (unsigned i = 0; i < 4 && !is_plain(*p) && *p != '"'; i++)
            if (!(p = copy_special(w, p)))
                return NULL;
        if (!reserve(w, STEP))
            return NULL;
        out = w->out;
    }
    *out = 0;
    w->out = out + 1;
    return p + 1;
}

#endif
