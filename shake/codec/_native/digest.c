#include "digest.h"

#include "names.h"

/* What a digest is of. Beside KEY_OTHER, the type of the value is part of the tag. */
enum tags { ELEMENT = 1, NAME, INTEGER, DOCUMENT, ARRAY, KEY_TEXT, KEY_BINARY, KEY_NUMBER,
            KEY_NOTHING, KEY_OTHER, KEY_BROKEN, KEY_PAIR };

/* -- numbers ----------------------------------------------------------------------------------- */

/* The value ± coefficient * 2**twos * 5**fives, where neither 2 nor 5 divides the coefficient. So
 * each value has one form, whatever type it had. Zero is all 0. */
struct number {
    bool negative;
    uint64_t high, low; /* of the coefficient */
    int32_t twos, fives;
};

/* A 5th of the coefficient; false, and nothing has changed, where there is a rest. */
static bool divide_by_5(struct number *n)
{
    uint64_t high = n->high / 5, rest = n->high % 5;
    uint64_t upper = rest << 32 | n->low >> 32;
    uint64_t lower = upper % 5 << 32 | (uint32_t)n->low;
    if (lower % 5)
        return false;
    n->high = high;
    n->low = upper / 5 << 32 | lower / 5;
    return true;
}

static void reduce(struct number *n)
{
    if (!n->high && !n->low) {
        *n = (struct number){0};
        return;
    }
    while (!(n->low & 1)) {
        n->low = n->low >> 1 | n->high << 63;
        n->high >>= 1;
        n->twos++;
    }
    while (divide_by_5(n))
        n->fives++;
}

static bool read_double(uint64_t bits, struct number *n)
{
    int32_t exponent = (int32_t)(bits >> 52 & 0x7ff);
    uint64_t fraction = bits & (UINT64_MAX >> 12);
    *n = (struct number){.negative = bits >> 63, .low = fraction, .twos = -1074};
    if (exponent > 0) {
        n->low |= (uint64_t)1 << 52;
        n->twos += exponent - 1;
    }
    return exponent < 0x7ff; /* else it is infinite, or no number */
}

/* False where it is infinite, no number, or of more than 34 digits, which means zero.
 * https://github.com/mongodb/specifications/blob/master/source/bson-decimal128/decimal128.md */
static bool read_decimal128(uint64_t high, uint64_t low, struct number *n)
{
    enum { BIAS = 6176 };
    const uint64_t most_high = 0x1ed09bead87c0u, most_low = 0x378d8e63ffffffffu;
    int32_t exponent = (int32_t)(high >> 49 & 0x3fff) - BIAS;
    *n = (struct number){high >> 63, high & (UINT64_MAX >> 15), low, exponent, exponent};
    bool fits = n->high < most_high || (n->high == most_high && low <= most_low);
    return fits && (high >> 61 & 3) != 3;
}

static bool read_number(const struct part *part, struct number *n)
{
    const uint8_t *value = part->value.data;
    int64_t integer = 0;
    switch (part->type) {
    case BSON_DOUBLE: return read_double(get64(value), n);
    case BSON_DECIMAL128: return read_decimal128(get64(value + 8), get64(value), n);
    case BSON_INT32: integer = (int32_t)get32(value); break;
    case BSON_INT64: integer = (int64_t)get64(value); break;
    default: return false;
    }
    *n = (struct number){.negative = integer < 0};
    n->low = n->negative ? 0 - (uint64_t)integer : (uint64_t)integer;
    return true;
}

/* -- keys -------------------------------------------------------------------------------------- */

static struct digest digest_number(const struct seed *seed, struct number *n)
{
    uint8_t text[1 + 8 + 8 + 4 + 4];
    reduce(n);
    text[0] = n->negative;
    put64(text + 1, n->low);
    put64(text + 9, n->high);
    put32(text + 17, (uint32_t)n->twos);
    put32(text + 21, (uint32_t)n->fives);
    return siphash(seed, KEY_NUMBER, text, sizeof text);
}

static struct digest digest_part(const struct seed *seed, const struct part *part)
{
    const struct bytes *value = &part->value;
    struct number number;
    if (part->type == 0 || part->type == BSON_NULL)
        return siphash(seed, KEY_NOTHING, (const uint8_t *)"", 0);
    if (part->type == BSON_STRING)
        return siphash(seed, KEY_TEXT, value->data, value->length);
    if (part->type == BSON_BINARY)
        return siphash(seed, KEY_BINARY, value->data, value->length);
    if (read_number(part, &number))
        return digest_number(seed, &number);
    return siphash(seed, KEY_OTHER | (uint32_t)part->type << 8, value->data, value->length);
}

struct digest digest_key(const struct seed *seed, const struct key_form *form, struct bytes fields)
{
    struct stored_key key;
    if (!read_key(form, fields, &key))
        return siphash(seed, KEY_BROKEN, fields.data, fields.length);
    struct digest first = digest_part(seed, &key.parts[0]);
    if (form->count == 1)
        return first;
    struct digest second = digest_part(seed, &key.parts[1]);
    uint8_t pair[2 * DIGEST_LENGTH];
    put_digest(pair, &first);
    put_digest(pair + DIGEST_LENGTH, &second);
    return siphash(seed, KEY_PAIR, pair, sizeof pair);
}

/* -- fields ------------------------------------------------------------------------------------ */

/* In raw, each level is two. */
enum { DEEPEST = 2 * MAX_DEPTH + 2 };

static bool digest_inside(const struct seed *seed, struct bytes fields, bool is_array,
                          unsigned depth, struct digest *digest);

/* What stands for a value whose bytes do not: the digest of its name, and this. */
static struct digest digest_named(const struct seed *seed, enum tags tag, const struct bytes *name,
                                  const uint8_t *value, size_t length)
{
    uint8_t text[2 * DIGEST_LENGTH];
    struct digest named = siphash(seed, NAME, name->data, name->length);
    put_digest(text, &named);
    memcpy(text + DIGEST_LENGTH, value, length);
    return siphash(seed, tag, text, DIGEST_LENGTH + length);
}

static bool digest_field(const struct seed *seed, const struct field *field, unsigned depth,
                         struct digest *digest)
{
    const struct bytes *name = &field->name, *value = &field->value;
    uint8_t text[DIGEST_LENGTH];
    struct digest inner;
    bool is_array = field->type == BSON_ARRAY;
    switch (field->type) {
    case BSON_DOCUMENT: case BSON_ARRAY:
        if (!digest_inside(seed, inside(value), is_array, depth + 1, &inner))
            return false;
        put_digest(text, &inner);
        *digest = digest_named(seed, is_array ? ARRAY : DOCUMENT, name, text, DIGEST_LENGTH);
        return true;
    case BSON_INT32: case BSON_INT64:
        put64(text, field->type == BSON_INT32 ? (uint64_t)(int32_t)get32(value->data)
                                              : get64(value->data));
        *digest = digest_named(seed, INTEGER, name, text, 8);
        return true;
    case BSON_DOUBLE: case BSON_STRING: case BSON_BINARY: case BSON_BOOL: case BSON_NULL:
    case BSON_DECIMAL128: {
        const uint8_t *start = name->data - 1; /* its type, its name and its value, as they are */
        *digest = siphash(seed, ELEMENT, start, (size_t)(value->data + value->length - start));
        return true;
    }
    default:
        return false;
    }
}

static bool digest_inside(const struct seed *seed, struct bytes fields, bool is_array,
                          unsigned depth, struct digest *digest)
{
    const struct bytes all = fields;
    uint8_t expected[11]; /* the name of an array's next element */
    uint32_t count = 0;
    struct names names;
    struct field field;
    *digest = (struct digest){0};
    if (depth > DEEPEST)
        return false;
    begin_names(&names);
    while (fields.length) {
        struct digest one;
        if (!take_field(&fields, &field) || !digest_field(seed, &field, depth, &one))
            return false;
        if (is_array) {
            size_t length = (size_t)(put_index(expected, count++) - expected) - 1;
            if (!same_bytes(&field.name, &(struct bytes){expected, length}))
                return false;
        } else {
            struct place place = place_of(field.name.data, field.name.length);
            add_place(&names, &place);
        }
        digest->low += one.low;
        digest->high += one.high + (digest->low < one.low);
    }
    struct work unused = {0}; /* takes the reason */
    return !names.twice || names_differ(&unused, all);
}

bool digest_fields(const struct seed *seed, struct bytes fields, struct digest *digest)
{
    return digest_inside(seed, fields, false, 0, digest);
}
