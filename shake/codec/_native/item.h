/* Items and their typed values to BSON. */
#ifndef SHAKE_ITEM_H
#define SHAKE_ITEM_H

#include "work.h"

/* Write the document of the item whose opening brace is behind p. */
const uint8_t *put_item(struct work *w, const uint8_t *p);

#endif
