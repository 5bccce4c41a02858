#include "known.h"

struct known *learn(struct known_names *all, struct known **expected, const uint8_t *p,
                    size_t length, struct place place, int key)
{
    if (length > LONGEST_KNOWN || memcmp(p + 1 + length, "\":{\"", 4))
        return NULL;
    if (all->count == KNOWN_NAMES) {
        if (all->renewals == RENEWALS)
            return NULL;
        all->renewals++;
        all->first = all->other.inner = NULL;
        all->count = 0;
    }
    struct known *known = &all->names[all->count++];
    memcpy(known->text, p, KNOWN_TEXT);
    known->length = (uint8_t)(length + AROUND_NAME);
    known->mask = UINT32_MAX >> (KNOWN_TEXT - known->length);
    known->key = (int8_t)key;
    known->place = place;
    known->next = *expected;
    known->inner = NULL;
    return *expected = known;
}
