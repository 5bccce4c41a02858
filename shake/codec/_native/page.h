/* Responses, and a Scan response to documents. */
#ifndef SHAKE_PAGE_H
#define SHAKE_PAGE_H

#include "work.h"

/* A response whose one great array is read element by element. What lies around that is only seen
 * to be JSON: it is for the caller to read it. */
struct page {
    const char *array;          /* the array's name */
    const uint8_t *next;        /* in the input: the next element, or the array's closing bracket */
    size_t array_at, array_end; /* the array, brackets included, from the input's start */
    size_t count;               /* elements read of it */
};

/* Read up to the first element; false when it refused. */
bool open_page(struct work *w, const uint8_t *body, const char *array, struct page *page);

/* From the array's closing bracket to the end of the response. */
bool close_page(struct work *w, const uint8_t *body, struct page *page);

/* Write the documents of all items, one behind the other, and read the rest of the page. False when
 * it refused what is next, or found no room for it. */
bool put_items(struct work *w, const uint8_t *body, struct page *page);

#endif
