/* Source: https://bsonspec.org/spec.html */
#include "stored.h"

const char not_documents[] = "these are no documents, one behind the other";

/* Bytes of a value of which `left` are there at most; more than that where it is none. */
static size_t value_size(uint8_t type, const uint8_t *value, size_t left)
{
    enum { UNDEFINED = 0x06, DATE = 0x09, REGEX = 0x0b, POINTER = 0x0c, CODE = 0x0d, SYMBOL = 0x0e,
           SCOPED_CODE = 0x0f, TIMESTAMP = 0x11, MAX_KEY = 0x7f, MIN_KEY = 0xff };
    const size_t none = left + 1;
    size_t count, size;
    switch (type) {
    case UNDEFINED: case BSON_NULL: case MAX_KEY: case MIN_KEY: return 0;
    case BSON_BOOL: return 1;
    case BSON_INT32: return 4;
    case BSON_DOUBLE: case DATE: case TIMESTAMP: case BSON_INT64: return 8;
    case BSON_OBJECTID: return 12;
    case BSON_DECIMAL128: return 16;
    case REGEX:
        for (size = 0, count = 2; size < left && count > 0; size++)
            count -= value[size] == 0;
        return count ? none : size;
    default: break;
    }
    if (left < 4)
        return none;
    count = get32(value);
    switch (type) {
    case BSON_DOCUMENT: case BSON_ARRAY:
        return count >= 5 && count <= left && !value[count - 1] ? count : none;
    case BSON_STRING: case CODE: case SYMBOL: case POINTER:
        if (count == 0 || count > left - 4 || value[4 + count - 1])
            return none;
        return 4 + count + (type == POINTER ? 12 : 0);
    case BSON_BINARY: return 5 + count;
    case SCOPED_CODE: return count >= 4 ? count : none;
    default: return none;
    }
}

bool take_document(struct bytes *documents, struct bytes *fields)
{
    const uint8_t *start = documents->data;
    size_t length = documents->length < 5 ? 0 : get32(start);
    if (length < 5 || length > documents->length || start[length - 1])
        return false;
    *fields = (struct bytes){start + 4, length - 5};
    *documents = (struct bytes){start + length, documents->length - length};
    return true;
}

bool take_field(struct bytes *fields, struct field *field)
{
    const uint8_t *start = fields->data, *end = start + fields->length;
    if (start == end || !*start)
        return false;
    const uint8_t *name = start + 1, *name_end = memchr(name, 0, (size_t)(end - name));
    if (!name_end)
        return false;
    const uint8_t *value = name_end + 1;
    size_t left = (size_t)(end - value), size = value_size(*start, value, left);
    if (size > left)
        return false;
    *field = (struct field){*start, {name, (size_t)(name_end - name)}, {value, size}};
    *fields = (struct bytes){value + size, left - size};
    return true;
}

/* With raw, a value is a document that holds nothing but it, under its type. */
static struct part untyped(const struct key_form *form, unsigned number, struct part part)
{
    if (!form->raw)
        return part;
    struct field field;
    struct bytes fields = part.type == BSON_DOCUMENT ? inside(&part.value) : (struct bytes){0};
    if (take_field(&fields, &field) && fields.length == 0 && field.name.length == 1 &&
        *field.name.data == form->types[number])
        return (struct part){field.type, field.value};
    return (struct part){0};
}

/* Find the parts among fields, the first of each name; false where the fields are broken. */
static bool find_parts(const struct key_form *form, struct bytes *fields, struct part parts[2])
{
    unsigned left = form->count;
    struct field field;
    while (fields->length && left > 0) {
        if (!take_field(fields, &field))
            return false;
        for (unsigned i = 0; i < 2 && i < form->count; i++)
            if (!parts[i].type && same_bytes(&field.name, &form->names[i])) {
                parts[i] = (struct part){field.type, field.value};
                left--;
            }
    }
    return true;
}

/* The same of an _id, which must hold both parts and nothing else. */
static bool find_parts_of_id(const struct key_form *form, const struct field *id,
                             struct part parts[2])
{
    if (id->type != BSON_DOCUMENT)
        return true;
    struct bytes fields = inside(&id->value);
    if (!find_parts(form, &fields, parts))
        return false;
    if (fields.length || !parts[0].type || !parts[1].type)
        parts[0] = parts[1] = (struct part){0};
    return true;
}

bool read_key(const struct key_form *form, struct bytes fields, struct stored_key *key)
{
    struct bytes rest = fields;
    *key = (struct stored_key){0};
    if (take_field(&rest, &key->id) && !is_word(&key->id.name, "_id"))
        key->id = (struct field){0};
    bool whole = true;
    if (!form->by_id)
        whole = find_parts(form, &fields, key->parts);
    else if (form->count == 1)
        key->parts[0] = (struct part){key->id.type, key->id.value};
    else
        whole = find_parts_of_id(form, &key->id, key->parts);
    for (unsigned i = 0; i < form->count; i++)
        key->parts[i] = untyped(form, i, key->parts[i]);
    return whole;
}
