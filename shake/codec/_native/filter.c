/* Source: https://www.mongodb.com/docs/manual/reference/operator/query/in/ */
#include "matcher.h"

/* What any element needs beside its name and value, array indexes included. */
enum { AROUND = 64 };

static size_t path_length(const struct matcher *m, unsigned number)
{
    return m->stored.by_id ? 3 : m->stored.names[number].length + (m->stored.raw ? 2 : 0);
}

static void append_path(const struct matcher *m, struct work *w, unsigned number)
{
    if (m->stored.by_id) {
        append(w, "_id", 4);
        return;
    }
    append(w, m->stored.names[number].data, m->stored.names[number].length);
    if (m->stored.raw) {
        *w->out++ = '.';
        *w->out++ = m->stored.types[number];
    }
    *w->out++ = 0;
}

static struct stored_key key_of(const struct matcher *m, size_t number)
{
    size_t start = m->expected[number].start;
    struct bytes from = {m->documents.data + start, m->documents.length - start}, fields;
    struct stored_key key;
    take_document(&from, &fields);
    read_key(&m->ours, fields, &key);
    return key;
}

/* What the path of this number leads to: with id.mode = key, the whole _id. */
static struct part part_of(const struct matcher *m, const struct stored_key *key, unsigned number)
{
    return m->stored.by_id ? (struct part){key->id.type, key->id.value} : key->parts[number];
}

size_t filter_room(const struct matcher *m, size_t first, size_t last)
{
    size_t paths = path_length(m, 0) + path_length(m, m->stored.count - 1);
    size_t room = 2 * (AROUND + paths);
    for (; first < last; first++) {
        struct stored_key key = key_of(m, first);
        room += 2 * (AROUND + paths) + key.id.value.length + key.parts[0].value.length +
                key.parts[1].value.length;
    }
    return room;
}

static void append_value(struct work *w, const struct part *part)
{
    if (part->type) /* as it is in all documents of the codec */
        append(w, part->value.data, part->value.length);
}

/* An element of an array begins: its type and its index. */
static void open_element(struct work *w, uint8_t type, uint32_t index)
{
    *w->out++ = type;
    w->out = put_index(w->out, index);
}

/* {path: {$in: [...]}}, without the brackets around, whose values are added one by one. */
struct list {
    size_t operator_at, array_at;
    uint32_t count;
};

static struct list open_list(const struct matcher *m, struct work *w, unsigned number)
{
    struct list list = {0};
    *w->out++ = BSON_DOCUMENT;
    append_path(m, w, number);
    list.operator_at = open_here(w);
    *w->out++ = BSON_ARRAY;
    append(w, "$in", 4);
    list.array_at = open_here(w);
    return list;
}

static void add_to_list(struct work *w, struct list *list, struct part part)
{
    open_element(w, part.type, list->count++);
    append_value(w, &part);
}

static void close_list(struct work *w, const struct list *list)
{
    close_at(w, list->array_at);
    close_at(w, list->operator_at);
}

/* Documents of one partition that follow each other. */
static size_t end_of_group(const struct matcher *m, size_t first, size_t last)
{
    struct part partition = key_of(m, first).parts[0];
    while (++first < last) {
        struct part next = key_of(m, first).parts[0];
        if (next.type != partition.type || !same_bytes(&next.value, &partition.value))
            break;
    }
    return first;
}

static void put_some(const struct matcher *m, struct work *w, size_t first, size_t last)
{
    struct part partition = key_of(m, first).parts[0];
    *w->out++ = partition.type;
    append_path(m, w, 0);
    append_value(w, &partition);
    struct list sorts = open_list(m, w, 1);
    for (; first < last; first++)
        add_to_list(w, &sorts, key_of(m, first).parts[1]);
    close_list(w, &sorts);
}

/* Whole partitions, or, with a key of one attribute, documents. */
static void put_whole(const struct matcher *m, struct work *w, size_t first, size_t last)
{
    struct list list = open_list(m, w, 0);
    bool alone = m->stored.by_id || m->stored.count == 1;
    while (first < last) {
        struct stored_key key = key_of(m, first);
        add_to_list(w, &list, part_of(m, &key, 0));
        first = alone ? first + 1 : end_of_group(m, first, last);
    }
    close_list(w, &list);
}

/* Where the last partition begins. */
static size_t start_of_last(const struct matcher *m, size_t first, size_t last)
{
    size_t start = first;
    while (first < last) {
        start = first;
        first = end_of_group(m, first, last);
    }
    return start;
}

static void put_or(const struct matcher *m, struct work *w, size_t first, size_t last, bool scanned)
{
    *w->out++ = BSON_ARRAY;
    append(w, "$or", 4);
    size_t start = open_here(w), end;
    for (uint32_t clauses = 0; first < last; first = end, clauses++) {
        end = end_of_group(m, first, last);
        bool whole = scanned && clauses == 1 && end < last; /* all but the first and the last */
        if (whole)
            end = start_of_last(m, end, last);
        open_element(w, BSON_DOCUMENT, clauses);
        size_t clause = open_here(w);
        (whole ? put_whole : put_some)(m, w, first, end);
        close_at(w, clause);
    }
    close_at(w, start);
}

void put_filter(const struct matcher *m, struct work *w, size_t first, size_t last, bool scanned)
{
    size_t start = open_here(w);
    if (m->stored.by_id || m->stored.count == 1)
        put_whole(m, w, first, last);
    else if (end_of_group(m, first, last) == last)
        put_some(m, w, first, last);
    else
        put_or(m, w, first, last, scanned);
    close_at(w, start);
}
