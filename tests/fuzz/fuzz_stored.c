/* Reads any bytes as stored documents; see fuzz.c. */
#include "fuzz.h"

#include <stdlib.h>

#include "matcher.h"
#include "reply.h"

static const struct seed seed = {1, 2};

static void check_digests(const struct key_form *form, struct bytes documents)
{
    struct bytes fields;
    while (take_document(&documents, &fields)) {
        struct digest digest;
        digest_key(&seed, form, fields);
        digest_fields(&seed, fields, &digest);
    }
}

/* Into memory of the very size, for the sanitizer to see its end. */
static void check_filter(const struct matcher *m, size_t first, bool scanned)
{
    size_t room = filter_room(m, first, m->count);
    struct work w = {.base = malloc(room)};
    if (!w.base)
        fail("no memory");
    w.out = w.base;
    w.limit = w.base + room;
    put_filter(m, &w, first, m->count, scanned);
    if (get32(w.base) != offset(&w))
        fail("a filter with a wrong length");
    free(w.base);
}

/* Documents are equal to themselves, unless two have one key. */
static void check_matcher(const struct key_form *ours, const struct key_form *stored,
                          struct bytes documents)
{
    struct matcher m = {.seed = seed, .ours = *ours, .stored = *stored, .documents = documents};
    const char *reason;
    if (read_expected(&m, &reason)) {
        for (size_t first = 0; first < m.count; first++)
            check_filter(&m, first, first % 2);
        if (!match(&m, documents))
            fail("documents that are none the second time");
        bool alike = ours->by_id == stored->by_id && ours->raw == stored->raw;
        for (size_t i = 0; alike && i < m.count; i++)
            if (m.expected[i].copies == 1 && !m.expected[i].equal)
                fail("a document that differs from itself");
    }
    free_matcher(&m);
}

/* The parts of an answer are as long as the whole. */
static void check_reply(struct bytes reply)
{
    struct batch batch;
    struct bytes fields;
    size_t size;
    if (!find_batch(reply, &batch) || !batch.array.data || !find_size(&batch, &size))
        return;
    if (size > batch.array.length)
        fail("documents beyond their array");
    uint8_t *rest = malloc(rest_size(&reply, &batch)), *documents = malloc(size + !size);
    if (!rest || !documents)
        fail("no memory");
    cut_batch(reply, &batch, rest, documents);
    struct bytes left = {rest, rest_size(&reply, &batch)};
    if (!take_document(&left, &fields) || left.length)
        fail("an answer that is no document when it is cut");
    free(rest);
    free(documents);
}

void read_stored(const uint8_t *data, size_t size)
{
    static const struct key_form base = {
        .names = {{(const uint8_t *)"pk", 2}, {(const uint8_t *)"sk", 2}}, .types = {'S', 'N'}};
    struct key_form forms[8];
    uint8_t *copy = malloc(size + !size);
    if (!copy)
        fail("no memory");
    if (size)
        memcpy(copy, data, size);
    struct bytes documents = {copy, size};
    check_reply(documents);
    for (unsigned i = 0; i < 8; i++) {
        forms[i] = base;
        forms[i].by_id = i & 1;
        forms[i].raw = i & 2;
        forms[i].count = i & 4 ? 2 : 1;
        check_digests(&forms[i], documents);
    }
    for (unsigned i = 0; i < 8; i++) {
        check_matcher(&forms[i], &forms[i], documents);
        check_matcher(&forms[i | 1], &forms[i & ~1u], documents);
    }
    free(copy);
}
