/* Member names of one object: JSON lets a name come twice, and then the last one counts. */
#ifndef SHAKE_NAMES_H
#define SHAKE_NAMES_H

#include "work.h"

enum { PLACES = 1024 };

/* The names so far as a set of hashes. Few objects hold two names of one hash; only for them are
 * names compared. */
struct names {
    uint64_t seen[PLACES / 64];
    uint64_t twice; /* not 0: some may be equal */
};

/* In two halves: for the whole, compilers take a slow instruction. */
static inline void begin_names(struct names *names)
{
    enum { HALF = sizeof names->seen / 2 };
    memset(names->seen, 0, HALF);
    memset((char *)names->seen + HALF, 0, HALF);
    names->twice = 0;
}

/* The place of a name in the set. */
struct place {
    unsigned word;
    uint64_t bit;
};

static inline struct place place_of(const uint8_t *name, size_t length)
{
    uint64_t first = 0, last = 0;
    if (length >= 8) {
        memcpy(&first, name, 8);
        memcpy(&last, name + length - 8, 8);
    } else if (length >= 4) {
        uint32_t head, tail;
        memcpy(&head, name, 4);
        memcpy(&tail, name + length - 4, 4);
        first = head, last = tail;
    } else if (length > 0) {
        first = (uint64_t)name[0] << 16 | (uint64_t)name[length / 2] << 8 | name[length - 1];
    }
    uint64_t mixed = (first ^ (last << 29 | last >> 35) ^ length) * 0x9e3779b97f4a7c15u;
    unsigned place = (unsigned)((mixed ^ mixed << 23) >> 54); /* 0 to PLACES - 1 */
    return (struct place){place / 64, (uint64_t)1 << place % 64};
}

static inline void add_place(struct names *names, const struct place *place)
{
    uint64_t *word = &names->seen[place->word];
    names->twice |= *word & place->bit;
    *word |= place->bit;
}

/* Whether no name comes twice in the fields of a document. */
bool names_differ(struct work *w, struct bytes fields);

#endif
