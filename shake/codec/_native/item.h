/* Items and their typed values to BSON. */
#ifndef SHAKE_ITEM_H
#define SHAKE_ITEM_H

#include "work.h"

/* Where a key attribute's element was written, as offsets. */
struct element {
    size_t type_at, value_at, end;
};

/* Write the document of the item whose opening brace is behind p, and tell of its key. */
const uint8_t *put_item(struct work *w, const uint8_t *p, enum identity identity,
                        struct element keys[2]);

/* Write the document that selects the one with these key elements, which were written before. */
bool put_query(struct work *w, const struct element keys[2]);

#endif
