#include "work.h"

#include <stdlib.h>

const char no_memory[] = "no memory";

bool grow(struct work *w, size_t need)
{
    size_t used = offset(w), size = 2 * (used + need);
    uint8_t *moved = realloc(w->base, size);
    if (!moved) {
        refuse(w, w->end, no_memory);
        return false;
    }
    w->base = moved;
    w->out = moved + used;
    w->limit = moved + size;
    return true;
}
