#include "names.h"

#include <stdlib.h>

#include "stored.h"

const char no_memory[] = "no memory";

static uint32_t hash(const struct bytes *name)
{
    uint32_t value = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < name->length; i++)
        value = (value ^ name->data[i]) * 16777619u;
    return value;
}

/* A hash table with linear probing; an entry is the place of a name, counted from 1. Somebody may
 * have chosen names that meet in it, so the steps are bounded. */
static bool differ(struct bytes fields, uint32_t *table, size_t size)
{
    const char *start = (const char *)fields.data;
    size_t steps = 8 * size;
    struct field field;
    while (take_field(&fields, &field)) {
        const char *name = (const char *)field.name.data;
        size_t place = hash(&field.name) & (size - 1);
        for (; table[place]; place = (place + 1) & (size - 1))
            if (steps-- == 0 || !strcmp(start + table[place], name))
                return false;
        table[place] = (uint32_t)(name - start);
    }
    return true;
}

bool names_differ(struct work *w, struct bytes fields)
{
    uint32_t small[256] = {0}, *table = small;
    size_t size = sizeof small / sizeof *small, count = 0;
    struct field field;
    for (struct bytes left = fields; take_field(&left, &field);)
        count++;
    if (2 * count > size) {
        while (size < 2 * count)
            size *= 2;
        table = calloc(size, sizeof *table);
        if (!table) {
            refuse(w, w->end, no_memory);
            return false;
        }
    }
    bool answer = differ(fields, table, size);
    if (table != small)
        free(table);
    return answer;
}
