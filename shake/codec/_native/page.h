/* A Scan response to documents. */
#ifndef SHAKE_PAGE_H
#define SHAKE_PAGE_H

#include "work.h"

struct page {
    size_t items_at, items_end; /* the array of items, brackets included, in the input */
    size_t count;               /* items in it, each a document in the output */
};

/* Write the documents of a page, one behind the other. The members beside "Items" are stepped over
 * by their brackets and quotes alone: they are few and small, and it is for the caller to check the
 * page without its items, which then says that the whole page is what it should be.
 * Returns NULL when it refused. */
const uint8_t *put_page(struct work *w, const uint8_t *p, struct page *page);

#endif
