#include "matcher.h"

#include <stdlib.h>

/* Where the digest of a key is in the table, or would be. */
static uint32_t *place_in(const struct matcher *m, const struct digest *key)
{
    size_t at = key->low & (m->table_size - 1);
    while (m->table[at] && !same_digest(&m->expected[m->table[at] - 1].key, key))
        at = (at + 1) & (m->table_size - 1);
    return &m->table[at];
}

static bool count_documents(struct matcher *m)
{
    struct bytes left = m->documents, fields;
    for (; left.length; m->count++)
        if (!take_document(&left, &fields))
            return false;
    return true;
}

static bool make_room(struct matcher *m)
{
    for (m->table_size = 16; m->table_size < 2 * m->count;)
        m->table_size *= 2;
    m->expected = calloc(m->count + 1, sizeof *m->expected);
    m->table = calloc(m->table_size, sizeof *m->table);
    return m->expected && m->table;
}

bool read_expected(struct matcher *m, const char **reason)
{
    *reason = not_documents;
    if (m->documents.length > UINT32_MAX || !count_documents(m))
        return false;
    *reason = no_memory;
    if (!make_room(m))
        return false;
    struct bytes left = m->documents, fields;
    for (struct expected *e = m->expected; left.length; e++) {
        e->start = (uint32_t)(left.data - m->documents.data);
        take_document(&left, &fields);
        e->key = digest_key(&m->seed, &m->ours, fields);
        uint32_t *place = place_in(m, &e->key);
        if (*place) /* two of one key: neither can be matched with certainty */
            e->copies = m->expected[*place - 1].copies = 2;
        else
            *place = (uint32_t)(e - m->expected) + 1;
    }
    return true;
}

void free_matcher(struct matcher *m)
{
    free(m->expected);
    free(m->table);
}

/* Split fields into the _id, where that comes first, and what follows. */
static struct bytes behind_id(struct bytes fields, struct bytes *id)
{
    struct stored_key key;
    static const struct key_form by_id = {.by_id = true, .count = 1};
    *id = (struct bytes){fields.data, 0};
    read_key(&by_id, fields, &key);
    if (!key.id.type)
        return fields;
    const uint8_t *end = key.id.value.data + key.id.value.length;
    *id = (struct bytes){fields.data, (size_t)(end - fields.data)};
    return (struct bytes){end, fields.length - id->length};
}

/* Whether both say the same; the _id counts only where it is the key, and then byte for byte. */
static bool say_the_same(const struct matcher *m, struct bytes ours, struct bytes theirs)
{
    struct bytes our_id, their_id;
    struct digest our_digest, their_digest;
    ours = behind_id(ours, &our_id);
    theirs = behind_id(theirs, &their_id);
    if (m->stored.by_id && !same_bytes(&our_id, &their_id))
        return false;
    if (same_bytes(&ours, &theirs)) /* mostly */
        return true;
    return digest_fields(&m->seed, ours, &our_digest) &&
           digest_fields(&m->seed, theirs, &their_digest) &&
           same_digest(&our_digest, &their_digest);
}

bool match(struct matcher *m, struct bytes stored)
{
    struct bytes fields, ours;
    while (stored.length) {
        if (!take_document(&stored, &fields))
            return false;
        struct digest key = digest_key(&m->seed, &m->stored, fields);
        uint32_t *place = place_in(m, &key);
        if (!*place)
            continue; /* in the partition of another, and of no item of the page */
        struct expected *e = &m->expected[*place - 1];
        if (e->copies == 0) {
            struct bytes from = {m->documents.data + e->start, m->documents.length - e->start};
            take_document(&from, &ours);
            e->equal = say_the_same(m, ours, fields);
        }
        if (e->copies < 2)
            e->copies++;
    }
    return true;
}
