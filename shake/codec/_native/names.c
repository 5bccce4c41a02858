#include "names.h"

#include <stdlib.h>

/* Bytes of an element's value. */
static size_t value_size(uint8_t type, const uint8_t *value)
{
    switch (type) {
    case BSON_DOUBLE: case BSON_INT64: return 8;
    case BSON_STRING: return 4 + get32(value);
    case BSON_DOCUMENT: case BSON_ARRAY: return get32(value);
    case BSON_BINARY: return 5 + get32(value);
    case BSON_OBJECTID: return 12;
    case BSON_BOOL: return 1;
    case BSON_INT32: return 4;
    case BSON_DECIMAL128: return 16;
    default: return 0;
    }
}

static uint32_t hash(const uint8_t *name, size_t length)
{
    uint32_t value = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        value = (value ^ name[i]) * 16777619u;
    return value;
}

/* Behind an element. */
static const uint8_t *step_over_element(const uint8_t *element)
{
    const uint8_t *value = element + strlen((const char *)element + 1) + 2;
    return value + value_size(*element, value);
}

/* A hash table with linear probing; an entry is the place of a name, counted from 1. Somebody may
 * have chosen names that meet in it, so the steps are bounded. */
static bool differ(const uint8_t *elements, const uint8_t *end, uint32_t *table, size_t size)
{
    size_t steps = 8 * size;
    for (const uint8_t *at = elements; at < end; at = step_over_element(at)) {
        const char *name = (const char *)at + 1;
        size_t place = hash(at + 1, strlen(name)) & (size - 1);
        for (; table[place]; place = (place + 1) & (size - 1))
            if (steps-- == 0 || !strcmp((const char *)elements + table[place], name))
                return false;
        table[place] = (uint32_t)(at + 1 - elements);
    }
    return true;
}

bool names_differ(struct work *w, const uint8_t *elements, const uint8_t *end)
{
    uint32_t small[256] = {0}, *table = small;
    size_t size = sizeof small / sizeof *small, count = 0;
    for (const uint8_t *at = elements; at < end; at = step_over_element(at))
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
    bool answer = differ(elements, end, table, size);
    if (table != small)
        free(table);
    return answer;
}
