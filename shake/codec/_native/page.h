/* A Scan response to documents. */
#ifndef SHAKE_PAGE_H
#define SHAKE_PAGE_H

#include "work.h"

/* A page of which so much is read. The members beside "Items" are stepped over by their brackets
 * and quotes alone: they are few and small, and it is for the caller to check the page without its
 * items, which then says that the whole page is what it should be. */
struct page {
    const uint8_t *next;        /* in the input: the next item, or the array's closing bracket */
    size_t items_at, items_end; /* the array of items, brackets included, from the input's start */
    size_t count;               /* items read of it, each a document in the output */
    bool done;                  /* the page is read to its end */
};

/* Read up to the first item; false when it refused. */
bool open_page(struct work *w, const uint8_t *body, struct page *page);

/* Write the documents of as many items as there is room for, `most` of them, one behind the other;
 * behind the last, read the rest of the page. False when it refused what is next. */
bool put_items(struct work *w, const uint8_t *body, struct page *page, size_t most);

#endif
