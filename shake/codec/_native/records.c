/* Sources:
 * https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
 * https://www.mongodb.com/docs/manual/reference/command/update/#syntax
 * https://www.mongodb.com/docs/manual/reference/command/delete/#syntax */
#include "records.h"

#include <stdlib.h>

#include "item.h"
#include "json.h"
#include "known.h"

/* Bytes of JSON that a record has at least: its event, a key, a SequenceNumber. */
enum { SMALLEST_RECORD = 64 };

/* -- one record -------------------------------------------------------------------------------- */

/* Where its parts are; those that it need not have may stay NULL. */
struct record {
    const uint8_t *keys, *image; /* behind their opening braces */
    struct bytes sequence, created;
    enum event event;
    bool image_seen, change_seen;
};

/* To behind an object's member, the brace that opens it at p. */
static const uint8_t *read_object(struct work *w, const uint8_t *p, const uint8_t **inside)
{
    if (*inside)
        return refuse(w, p, "a member that comes twice");
    if (*p != '{')
        return refuse(w, p, "an object was expected");
    *inside = p + 1;
    return step_over(w, p);
}

static const uint8_t *read_event(struct work *w, const uint8_t *p, enum event *event)
{
    static const char *const words[] = {"\"INSERT\"", "\"MODIFY\"", "\"REMOVE\""};
    if (*event != NO_EVENT)
        return refuse(w, p, "a member that comes twice");
    if (w->end - p >= 8)
        for (unsigned i = 0; i < NO_EVENT; i++)
            if (!memcmp(p, words[i], 8)) {
                *event = (enum event)i;
                return p + 8;
            }
    return refuse(w, p, "an unknown event");
}

static const uint8_t *read_sequence(struct work *w, const uint8_t *p, struct bytes *sequence)
{
    if (sequence->data || *p != '"')
        return refuse(w, p, "one text was expected");
    sequence->data = ++p;
    while (*p >= '0' && *p <= '9')
        p++;
    sequence->length = (size_t)(p - sequence->data);
    return sequence->length && *p == '"' ? p + 1 : refuse(w, p, "no SequenceNumber");
}

static const uint8_t *read_created(struct work *w, const uint8_t *p, struct bytes *created)
{
    if (created->data || (*p != '-' && (*p < '0' || *p > '9')))
        return refuse(w, p, "one number was expected");
    created->data = p;
    if (!(p = step_over(w, p)))
        return NULL;
    created->length = (size_t)(p - created->data);
    return p;
}

static const uint8_t *read_image(struct work *w, const uint8_t *p, struct record *record)
{
    if (record->image_seen)
        return refuse(w, p, "a member that comes twice");
    record->image_seen = true;
    return *p == 'n' ? step_over(w, p) : read_object(w, p, &record->image);
}

/* The member "dynamodb". */
static const uint8_t *read_change(struct work *w, const uint8_t *p, struct record *record)
{
    if (record->change_seen || *p != '{')
        return refuse(w, p, "one object was expected");
    record->change_seen = true;
    p = skip_space(p + 1);
    while (*p != '}') {
        struct bytes name;
        if (!(p = read_member(w, p, &name)))
            return NULL;
        if (is_word(&name, "Keys"))
            p = read_object(w, p, &record->keys);
        else if (is_word(&name, "NewImage"))
            p = read_image(w, p, record);
        else if (is_word(&name, "SequenceNumber"))
            p = read_sequence(w, p, &record->sequence);
        else if (is_word(&name, "ApproximateCreationDateTime"))
            p = read_created(w, p, &record->created);
        else
            p = step_over(w, p);
        if (!p || !(p = next_member(w, p, '}')))
            return NULL;
    }
    return p + 1;
}

static const uint8_t *read_record(struct work *w, const uint8_t *p, struct record *record)
{
    if (*p != '{')
        return refuse(w, p, "a record was expected");
    p = skip_space(p + 1);
    while (*p != '}') {
        struct bytes name;
        if (!(p = read_member(w, p, &name)))
            return NULL;
        if (is_word(&name, "eventName"))
            p = read_event(w, p, &record->event);
        else if (is_word(&name, "dynamodb"))
            p = read_change(w, p, record);
        else
            p = step_over(w, p);
        if (!p || !(p = next_member(w, p, '}')))
            return NULL;
    }
    if (record->event == NO_EVENT || !record->keys || !record->sequence.data)
        return refuse(w, p, "a record without event, keys or SequenceNumber");
    return p + 1;
}

/* -- all records ------------------------------------------------------------------------------- */

static bool same_query(const uint8_t *one, const uint8_t *other)
{
    return get32(one) == get32(other) && !memcmp(one, other, get32(one));
}

/* Of a query, a document that ends in zeros up to a multiple of 8 bytes. */
static uint64_t hash(const uint8_t *query)
{
    uint64_t value = 0;
    for (size_t at = 0; at < get32(query); at += 8) {
        value = (value ^ get64(query + at)) * 0x9e3779b97f4a7c15u;
        value ^= value >> 29;
    }
    return value;
}

/* The place in the table of the change with this query, or where one is to be entered. Somebody may
 * have chosen keys that meet in it, so the steps are bounded: NULL. */
static uint32_t *look_up(const struct records *records, const uint8_t *query)
{
    size_t mask = records->table_size - 1, place = hash(query) & mask;
    for (unsigned steps = 0; steps < 256; steps++, place = (place + 1) & mask) {
        uint32_t *entry = &records->table[place];
        if (!*entry ||
            same_query(records->queries + records->changes[*entry - 1].query_at, query))
            return entry;
    }
    return NULL;
}

/* Write the query for a record's key at the end of the queries. */
static bool write_query(struct work *w, const struct record *record)
{
    struct element keys[2];
    size_t start = offset(w);
    if (!put_item(w, record->keys, IDENTITY_NONE, keys))
        return false;
    size_t query_at = offset(w);
    if (!put_query(w, keys) || !reserve(w, 8))
        return false;
    memset(w->out, 0, 8);
    size_t length = offset(w) - query_at, padded = (length + 7) & ~(size_t)7;
    memmove(w->base + start, w->base + query_at, padded);
    w->out = w->base + start + padded;
    return true;
}

static bool add_record(struct work *w, struct records *records, const struct record *record)
{
    size_t query_at = offset(w);
    if (!write_query(w, record))
        return false;
    uint32_t *entry = look_up(records, w->base + query_at);
    if (!entry || records->change_count == records->change_most)
        return refuse(w, record->keys, "many keys, or many of one hash");
    struct change *change;
    if (*entry) {
        change = &records->changes[*entry - 1];
        w->out = w->base + query_at;
    } else {
        change = &records->changes[records->change_count++];
        *entry = (uint32_t)records->change_count;
        *change = (struct change){.query_at = query_at, .first = record->event, .modifies = true};
    }
    change->last = record->event;
    change->modifies &= record->event == MODIFY;
    change->image = record->image;
    return true;
}

/* Memory for what a body of this length can hold at most; only what is used of it costs. */
static bool make_room(struct work *w, size_t length, struct records *records)
{
    size_t most = length / SMALLEST_RECORD + 1, queries = 2 * length + (1 << 16);
    records->change_most = most;
    records->table_size = 16;
    while (records->table_size < 2 * most)
        records->table_size *= 2;
    records->table = calloc(records->table_size, sizeof *records->table);
    records->changes = malloc(most * sizeof *records->changes);
    records->queries = malloc(queries);
    if (!records->table || !records->changes || !records->queries)
        return refuse(w, w->end, no_memory);
    w->base = w->out = records->queries;
    w->limit = w->base + queries;
    return true;
}

bool read_records(struct work *w, const uint8_t *body, struct records *records)
{
    struct page *page = &records->page;
    if (!open_page(w, body, "Records", page) ||
        !make_room(w, (size_t)(w->end - page->next), records))
        return false;
    struct known_names known;
    begin_known(w, &known);
    for (const uint8_t *p = page->next; *p != ']'; page->next = p, page->count++) {
        struct record record = {.event = NO_EVENT};
        if (!(p = read_record(w, p, &record)) || !(p = next_member(w, p, ']')) ||
            !add_record(w, records, &record))
            return false;
        records->sequence = record.sequence;
        records->created = record.created;
    }
    return close_page(w, body, page);
}

void free_records(struct records *records)
{
    free(records->table);
    free(records->changes);
    free(records->queries);
}

/* -- statements -------------------------------------------------------------------------------- */

static enum kind kind_of(const struct work *w, const struct change *change)
{
    if (change->last == REMOVE)
        return KIND_DELETE;
    return w->options->insert_only && change->first == INSERT ? KIND_INSERT : KIND_UPDATE;
}

/* An element's type and name, reserved before. */
static void append_head(struct work *w, enum bson_type type, const char *name)
{
    *w->out++ = (uint8_t)type;
    append(w, name, strlen(name) + 1);
}

/* Write the new image's document, whose key must be the change's. */
static bool put_image(struct work *w, const struct change *change, const uint8_t *query)
{
    struct element keys[2];
    const uint8_t *image = change->image;
    if (!image)
        return refuse(w, w->end, "a change without its new image");
    if (!put_item(w, image, w->options->identity, keys))
        return false;
    size_t end = offset(w);
    if (!put_query(w, keys))
        return false;
    w->out = w->base + end;
    return same_query(w->out, query) || refuse(w, image, "a new image of another key");
}

/* Make the element `u` from here on a pipeline of one stage, its document a literal.
 * Source: https://www.mongodb.com/docs/manual/core/dot-dollar-considerations/ */
static bool make_literal(struct work *w, size_t start)
{
    static const char stage[] = "$replaceWith", literal[] = "$literal";
    enum { HEAD = 4 + 1 + 2 + 4 + 1 + sizeof stage + 4 + 1 + sizeof literal };
    size_t document_at = start + 3, length = offset(w) - document_at;
    if (!reserve(w, HEAD + 3))
        return false;
    memmove(w->base + document_at + HEAD, w->base + document_at, length);
    w->base[start] = BSON_ARRAY;
    w->out = w->base + document_at;
    size_t opened[3] = {open_here(w)};
    append_head(w, BSON_DOCUMENT, "0");
    opened[1] = open_here(w);
    append_head(w, BSON_DOCUMENT, stage);
    opened[2] = open_here(w);
    append_head(w, BSON_DOCUMENT, literal);
    w->out += length;
    for (unsigned i = 3; i > 0; i--)
        close_at(w, opened[i - 1]);
    return true;
}

static bool put_update(struct work *w, const struct change *change, const uint8_t *query)
{
    if (!reserve(w, 4 + 3 + get32(query) + 3))
        return false;
    size_t start = open_here(w);
    append_head(w, BSON_DOCUMENT, "q");
    append(w, query, get32(query));
    size_t update_at = offset(w);
    append_head(w, BSON_DOCUMENT, "u");
    w->operators = false;
    if (!put_image(w, change, query) || (w->operators && !make_literal(w, update_at)) ||
        !reserve(w, 1 + 7 + 1 + 1))
        return false;
    append_head(w, BSON_BOOL, "upsert");
    *w->out++ = w->options->upsert || !change->modifies;
    close_at(w, start);
    return true;
}

static bool put_delete(struct work *w, const uint8_t *query)
{
    if (!reserve(w, 4 + 3 + get32(query) + 1 + 6 + 4 + 1))
        return false;
    size_t start = open_here(w);
    append_head(w, BSON_DOCUMENT, "q");
    append(w, query, get32(query));
    append_head(w, BSON_INT32, "limit");
    append32(w, 1);
    close_at(w, start);
    return true;
}

bool put_statements(struct work *w, const struct records *records, struct written *written)
{
    struct known_names known;
    begin_known(w, &known);
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < records->change_count; i++) {
            const struct change *change = &records->changes[i];
            const uint8_t *query = records->queries + change->query_at;
            if (kind_of(w, change) != kind)
                continue;
            size_t start = offset(w);
            bool put = kind == KIND_UPDATE   ? put_update(w, change, query)
                       : kind == KIND_INSERT ? put_image(w, change, query)
                                             : put_delete(w, query);
            if (!put) {
                w->out = w->base + start;
                return false;
            }
            written->sizes[kind] += offset(w) - start;
            written->counts[kind]++;
        }
    return true;
}
