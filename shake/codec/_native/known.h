/* Names that came before. The items of a table are mostly alike: what came in one is kept, in its
 * order, so that what comes in the next is recognised by one comparison. */
#ifndef SHAKE_KNOWN_H
#define SHAKE_KNOWN_H

#include "names.h"
#include "text.h"

/* Bytes that are compared, how many names are tried, and how many are kept. */
enum { KNOWN_TEXT = 2 * CHUNK, KNOWN_TRIES = 2, KNOWN_NAMES = 128 };

/* How often a page may begin anew to know names; then its items are not alike. */
enum { RENEWALS = 16 };

/* What is written around a name, `"name":{"`: up to the type of its value. */
enum { AROUND_NAME = 5, LONGEST_KNOWN = KNOWN_TEXT - AROUND_NAME };

/* Where both ends are this far, a name and most of a value need not ask for them. */
enum { FAR = 3 * KNOWN_TEXT };

struct known {
    uint8_t text[KNOWN_TEXT]; /* as it is written */
    uint32_t mask;            /* a bit for each byte of it */
    uint8_t length;           /* of the text; of its name: AROUND_NAME less */
    int8_t key;               /* the key attribute that it is, or -1 */
    struct place place;       /* in the set of names */
    struct known *next;       /* that came behind it, in the same object */
    struct known *inner;      /* the first that came inside of its value */
};

struct known_names {
    struct known *first; /* of an item */
    unsigned count, renewals;
    struct known other; /* stands for any that cannot be kept; has no length */
    struct known names[KNOWN_NAMES];
};

/* Nothing is known yet. */
static inline void begin_known(struct work *w, struct known_names *all)
{
    all->first = NULL;
    all->count = all->renewals = 0;
    all->other = (struct known){0};
    w->known = all;
    w->far_in = (uintptr_t)w->end - FAR;
    w->far_out = (uintptr_t)w->limit - FAR;
}

static inline bool is_far(const struct work *w, struct at at)
{
    return (uintptr_t)at.in <= w->far_in && (uintptr_t)at.out <= w->far_out;
}

static inline bool is_kept(const struct known *known)
{
    return known->length > 0;
}

/* Whether it is what is at p, of which KNOWN_TEXT bytes exist. */
static inline bool is_known(const struct known *known, const uint8_t *p)
{
#ifdef SHAKE_SSE2
    const __m128i *one = (const __m128i *)known->text, *other = (const __m128i *)p;
    unsigned head = (unsigned)_mm_movemask_epi8(
        _mm_cmpeq_epi8(_mm_loadu_si128(one), _mm_loadu_si128(other)));
    unsigned tail = (unsigned)_mm_movemask_epi8(
        _mm_cmpeq_epi8(_mm_loadu_si128(one + 1), _mm_loadu_si128(other + 1)));
    return !(~(head | tail << CHUNK) & known->mask);
#else
    return !memcmp(known->text, p, known->length);
#endif
}

/* The name at p, of which KNOWN_TEXT bytes exist, as one of those behind what was expected, since
 * not all items have all attributes; or NULL. */
static inline struct known *look_ahead(struct known *expected, const uint8_t *p)
{
    for (unsigned tries = KNOWN_TRIES; expected && tries > 0; tries--) {
        expected = expected->next;
        if (expected && is_known(expected, p))
            return expected;
    }
    return NULL;
}

#endif
