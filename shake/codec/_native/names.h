/* Member names of one object: JSON lets a name come twice, and then the last one counts. */
#ifndef SHAKE_NAMES_H
#define SHAKE_NAMES_H

#include "work.h"

/* The names so far as a set of hashes. Few objects hold two names of one hash; only for them are
 * names compared. */
struct names {
    uint64_t seen[16];
    size_t count;
    bool doubtful;
};

static inline void add_name(struct names *names, const uint8_t *name, size_t length)
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
    unsigned place = (unsigned)((mixed ^ mixed << 23) >> 54); /* 0 to 1023 */
    uint64_t bit = (uint64_t)1 << (place % 64);
    names->doubtful |= (names->seen[place / 64] & bit) != 0;
    names->seen[place / 64] |= bit;
    names->count++;
}

/* Whether no name comes twice in the elements from here to `w->out`, `count` of them. */
bool names_differ(struct work *w, size_t elements_at, size_t count);

#endif
