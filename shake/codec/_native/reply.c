/* Source: https://www.mongodb.com/docs/manual/reference/command/find/#output */
#include "reply.h"

bool find_batch(struct bytes reply, struct batch *batch)
{
    struct bytes fields, inner;
    struct field field;
    *batch = (struct batch){0};
    if (!take_document(&reply, &fields) || reply.length)
        return false;
    while (fields.length) {
        if (!take_field(&fields, &field))
            return false;
        if (field.type != BSON_DOCUMENT || !is_word(&field.name, "cursor"))
            continue;
        *batch = (struct batch){.cursor = field.value};
        for (inner = inside(&field.value); inner.length;) {
            if (!take_field(&inner, &field))
                return false;
            if (field.type == BSON_ARRAY &&
                (is_word(&field.name, "firstBatch") || is_word(&field.name, "nextBatch")))
                batch->array = field.value;
        }
    }
    return true;
}

bool find_size(const struct batch *batch, size_t *size)
{
    struct bytes elements = inside(&batch->array);
    struct field field;
    for (*size = 0; elements.length; *size += field.value.length)
        if (!take_field(&elements, &field) || field.type != BSON_DOCUMENT)
            return false;
    return true;
}

void cut_batch(struct bytes reply, const struct batch *batch, uint8_t *rest, uint8_t *documents)
{
    static const uint8_t empty[] = {5, 0, 0, 0, 0};
    size_t less = batch->array.length - sizeof empty;
    size_t before = (size_t)(batch->array.data - reply.data);
    size_t behind = before + batch->array.length;
    memcpy(rest, reply.data, before);
    memcpy(rest + before, empty, sizeof empty);
    memcpy(rest + before + sizeof empty, reply.data + behind, reply.length - behind);
    put32(rest, (uint32_t)(reply.length - less));
    put32(rest + (batch->cursor.data - reply.data), (uint32_t)(batch->cursor.length - less));
    struct bytes elements = inside(&batch->array);
    struct field field;
    while (take_field(&elements, &field)) {
        memcpy(documents, field.value.data, field.value.length);
        documents += field.value.length;
    }
}
