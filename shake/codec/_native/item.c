/* Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html */
#include "item.h"

#include "base64.h"
#include "names.h"
#include "number.h"
#include "text.h"

#define TAG2(a, b) ((tag)(a) << 8 | (tag)(b))
#define TAG4(a, b, c, d) (TAG2(a, b) << 16 | TAG2(c, d))

static const uint8_t *put_value(struct work *w, const uint8_t *p, size_t type_at, unsigned depth);

/* -- scalars: p is where the value begins ------------------------------------------------------ */

static const uint8_t *put_string(struct work *w, const uint8_t *p, size_t type_at)
{
    if (*p != '"')
        return refuse(w, p, "a string was expected");
    size_t start = offset(w);
    p = copy_text(w, p + 1, 4);
    if (!p)
        return NULL;
    uint8_t *base = w->base;
    put32(base + start, (uint32_t)(offset(w) - start - 4));
    base[type_at] = BSON_STRING;
    return p;
}

static const uint8_t *put_number(struct work *w, const uint8_t *p, size_t type_at)
{
    switch (w->options->convert) {
    case CONVERT_RAW:
        return put_string(w, p, type_at);
    case CONVERT_MCHANGE:
        return *p == '"' ? put_nearest(w, p + 1, type_at) : refuse(w, p, "a string was expected");
    default:
        return *p == '"' ? put_exact(w, p + 1, type_at) : refuse(w, p, "a string was expected");
    }
}

/* The text is copied like any other, then decoded in its place. */
static const uint8_t *put_binary(struct work *w, const uint8_t *p, size_t type_at)
{
    if (*p != '"')
        return refuse(w, p, "a string was expected");
    size_t start = offset(w);
    const uint8_t *behind = copy_text(w, p + 1, 5);
    if (!behind)
        return NULL;
    uint8_t *data = w->base + start + 5;
    int64_t length = base64_decode(data, data, (size_t)(w->out - data) - 1);
    if (length < 0)
        return refuse(w, p, "not base64");
    w->base[type_at] = BSON_BINARY;
    put32(w->base + start, (uint32_t)length);
    data[-1] = 0; /* the subtype */
    w->out = data + length;
    return behind;
}

static bool is_literal(const struct work *w, const uint8_t *p, const char *word, size_t length)
{
    return (size_t)(w->end - p) >= length && !memcmp(p, word, length);
}

static const uint8_t *put_bool(struct work *w, const uint8_t *p, size_t type_at)
{
    bool value = is_literal(w, p, "true", 4);
    if (!value && !is_literal(w, p, "false", 5))
        return refuse(w, p, "neither true nor false");
    if (!reserve(w, 1))
        return NULL;
    w->base[type_at] = BSON_BOOL;
    *w->out++ = value;
    return p + (value ? 4 : 5);
}

static const uint8_t *put_null(struct work *w, const uint8_t *p, size_t type_at)
{
    if (!is_literal(w, p, "true", 4))
        return refuse(w, p, "a NULL that is not true");
    if (w->options->convert == CONVERT_RAW)
        return put_bool(w, p, type_at);
    w->base[type_at] = BSON_NULL;
    return p + 4;
}

/* -- arrays and maps --------------------------------------------------------------------------- */

/* The name of an array's element, with its closing 0; at most 11 bytes. */
static void append_index(struct work *w, uint32_t index)
{
    uint8_t digits[10], *out = w->out;
    unsigned count = 0;
    do
        digits[count++] = (uint8_t)('0' + index % 10);
    while (index /= 10);
    while (count)
        *out++ = digits[--count];
    *out++ = 0;
    w->out = out;
}

/* An element is a typed value in L, and the bare value of a scalar in a set. */
static const uint8_t *put_array(struct work *w, const uint8_t *p, size_t type_at, unsigned depth,
                                tag element)
{
    if (*p != '[')
        return refuse(w, p, "an array was expected");
    if (!reserve(w, 4))
        return NULL;
    w->base[type_at] = BSON_ARRAY;
    size_t start = open_here(w);
    p = skip_space(p + 1);
    for (uint32_t index = 0; *p != ']'; index++) {
        if (!reserve(w, 1 + 11))
            return NULL;
        size_t element_at = offset(w);
        w->out++;
        append_index(w, index);
        switch (element) {
        case 'S': p = put_string(w, p, element_at); break;
        case 'N': p = put_number(w, p, element_at); break;
        case 'B': p = put_binary(w, p, element_at); break;
        default: p = put_value(w, p, element_at, depth); break;
        }
        if (!p || !(p = next_member(w, p, ']')))
            return NULL;
    }
    if (!reserve(w, 1))
        return NULL;
    close_at(w, start);
    return p + 1;
}

/* Write an element's type (later) and name; p is at the name's quote. Returns behind the colon. */
static const uint8_t *put_name(struct work *w, const uint8_t *p, size_t *name_at)
{
    if (*p != '"')
        return refuse(w, p, "a name was expected");
    *name_at = offset(w) + 1;
    w->zero = false;
    const uint8_t *behind = copy_text(w, p + 1, 1);
    if (!behind)
        return NULL;
    if (w->zero)
        return refuse(w, p, "a name that holds U+0000");
    return expect(w, behind, ':', "a colon was expected");
}

/* The end of a document's elements. */
static const uint8_t *close_object(struct work *w, const uint8_t *p, size_t start,
                                   const struct names *names)
{
    if (names->doubtful && !names_differ(w, start + 4, names->count))
        return w->reason ? NULL : refuse(w, p, "two names that are equal, or seem so");
    if (!reserve(w, 1))
        return NULL;
    close_at(w, start);
    return p + 1;
}

static const uint8_t *put_map(struct work *w, const uint8_t *p, size_t type_at, unsigned depth)
{
    if (*p != '{')
        return refuse(w, p, "an object was expected");
    if (!reserve(w, 4))
        return NULL;
    w->base[type_at] = BSON_DOCUMENT;
    size_t start = open_here(w), name_at;
    struct names names = {0};
    p = skip_space(p + 1);
    while (*p != '}') {
        if (!(p = put_name(w, p, &name_at)))
            return NULL;
        add_name(&names, w->base + name_at, offset(w) - name_at - 1);
        p = put_value(w, p, name_at - 1, depth);
        if (!p || !(p = next_member(w, p, '}')))
            return NULL;
    }
    return close_object(w, p, start, &names);
}

/* -- typed values ------------------------------------------------------------------------------ */

/* As read_tag, with space or more than one letter in it. */
static const uint8_t *read_any_tag(struct work *w, const uint8_t *p, tag *type)
{
    if (*p != '{')
        return refuse(w, p, "a value with its type was expected");
    p = skip_space(p + 1);
    if (*p++ != '"')
        return refuse(w, p - 1, "a type was expected");
    *type = 0;
    for (unsigned i = 0; i < 4 && *p >= 'A' && *p <= 'Z'; i++)
        *type = *type << 8 | *p++;
    if (*p != '"')
        return refuse(w, p, "an unknown type");
    p = expect(w, p + 1, ':', "a colon was expected");
    return p ? skip_space(p) : NULL;
}

/* Read `{"S":`. Returns where the value begins. */
static inline const uint8_t *read_tag(struct work *w, const uint8_t *p, tag *type)
{
    p = skip_space(p);
    if (p[0] == '{' && p[1] == '"' && p[2] && p[3] == '"' && p[4] == ':') {
        *type = p[2];
        return skip_space(p + 5);
    }
    return read_any_tag(w, p, type);
}

static const uint8_t *put_by_type(struct work *w, const uint8_t *p, tag type, size_t type_at,
                                  unsigned depth)
{
    switch (type) {
    case 'S': return put_string(w, p, type_at);
    case 'N': return put_number(w, p, type_at);
    case 'B': return put_binary(w, p, type_at);
    case TAG4('B', 'O', 'O', 'L'): return put_bool(w, p, type_at);
    case TAG4('N', 'U', 'L', 'L'): return put_null(w, p, type_at);
    case 'M': return put_map(w, p, type_at, depth + 1);
    case 'L': return put_array(w, p, type_at, depth + 1, 'L');
    case TAG2('S', 'S'): return put_array(w, p, type_at, depth, 'S');
    case TAG2('N', 'S'): return put_array(w, p, type_at, depth, 'N');
    case TAG2('B', 'S'): return put_array(w, p, type_at, depth, 'B');
    default: return refuse(w, p, "an unknown type");
    }
}

/* In raw, a document {type: value}. */
static const uint8_t *put_raw(struct work *w, const uint8_t *p, tag type, size_t type_at,
                              unsigned depth)
{
    if (!reserve(w, 4 + 1 + 4 + 1))
        return NULL;
    w->base[type_at] = BSON_DOCUMENT;
    size_t start = open_here(w), inner_at = offset(w);
    w->out++;
    for (unsigned shift = 32; shift;)
        if ((type >> (shift -= 8)) & 0xff)
            *w->out++ = (uint8_t)(type >> shift);
    *w->out++ = 0;
    p = put_by_type(w, p, type, inner_at, depth);
    if (!p || !reserve(w, 1))
        return NULL;
    close_at(w, start);
    return p;
}

/* Write the value of this type, and read its closing brace. */
static inline const uint8_t *put_typed(struct work *w, const uint8_t *p, tag type, size_t type_at,
                                       unsigned depth)
{
    if (depth > MAX_DEPTH)
        return refuse(w, p, "deep nesting");
    p = w->options->convert == CONVERT_RAW ? put_raw(w, p, type, type_at, depth)
                                           : put_by_type(w, p, type, type_at, depth);
    return p ? expect(w, p, '}', "the end of a value with its type was expected") : NULL;
}

static const uint8_t *put_value(struct work *w, const uint8_t *p, size_t type_at, unsigned depth)
{
    tag type;
    p = read_tag(w, p, &type);
    return p ? put_typed(w, p, type, type_at, depth) : NULL;
}

/* -- items ------------------------------------------------------------------------------------- */

static const uint8_t *rename_id(struct work *w, const uint8_t *p, size_t name_at)
{
    const struct bytes *renamed = &w->options->renamed;
    if (!renamed->data)
        return refuse(w, p, "an attribute _id");
    w->out = w->base + name_at;
    if (!reserve(w, renamed->length + 1))
        return NULL;
    append_name(w, renamed);
    return p;
}

/* The key that this name is, or -1. */
static int which_key(const struct options *options, const uint8_t *name, size_t length)
{
    for (unsigned i = 0; i < options->key_count; i++) {
        const struct bytes *key = &options->keys[i].name;
        if (key->length == length && !memcmp(key->data, name, length))
            return (int)i;
    }
    return -1;
}

/* Write one attribute; p is at its name. */
static const uint8_t *put_attribute(struct work *w, const uint8_t *p, struct names *names,
                                    struct element keys[2])
{
    const struct options *options = w->options;
    const uint8_t *start = p;
    size_t name_at;
    tag type;
    if (!(p = put_name(w, p, &name_at)))
        return NULL;
    size_t length = offset(w) - name_at - 1;
    int key = which_key(options, w->base + name_at, length);
    if (length == 3 && !memcmp(w->base + name_at, "_id", 3)) {
        if (!(p = rename_id(w, p, name_at)))
            return NULL;
        length = options->renamed.length;
    }
    w->operators |= w->base[name_at] == '$';
    add_name(names, w->base + name_at, length);
    size_t value_at = offset(w);
    if (!(p = read_tag(w, p, &type)) || !(p = put_typed(w, p, type, name_at - 1, 0)))
        return NULL;
    if (key < 0)
        return p;
    if (type != options->keys[key].type)
        return refuse(w, start, "a key attribute of another type");
    if (type == 'N' && options->convert == CONVERT_MCHANGE &&
        options->identity != IDENTITY_OBJECTID && !w->kept)
        return refuse(w, start, "a key that may change as a double");
    keys[key] = (struct element){name_at - 1, value_at, offset(w)};
    return p;
}

static size_t size_of(const struct element *element)
{
    return element->end - element->value_at;
}

/* Bytes of the element `_id` that is made of the key elements. */
static size_t key_id_size(const struct options *options, const struct element keys[2])
{
    if (options->key_count == 1)
        return 1 + 4 + size_of(&keys[0]);
    size_t size = 1 + 4 + 4 + 1;
    for (unsigned i = 0; i < 2; i++)
        size += 1 + options->keys[i].name.length + 1 + size_of(&keys[i]);
    return size;
}

/* ... and write it, reserved before; the offsets of the key elements count from `base`. */
static void append_key_id(struct work *w, const uint8_t *base, const struct element keys[2])
{
    const struct options *options = w->options;
    *w->out++ = options->key_count > 1 ? BSON_DOCUMENT : base[keys[0].type_at];
    append(w, "_id", 4);
    if (options->key_count == 1) {
        append(w, base + keys[0].value_at, size_of(&keys[0]));
        return;
    }
    size_t inner = open_here(w);
    for (unsigned i = 0; i < 2; i++) {
        *w->out++ = base[keys[i].type_at];
        append_name(w, &options->keys[i].name);
        append(w, base + keys[i].value_at, size_of(&keys[i]));
    }
    close_at(w, inner);
}

/* Insert the element `_id` in front of the attributes, made of the key elements among them. */
static bool put_key_id(struct work *w, size_t start, struct element keys[2])
{
    size_t size = key_id_size(w->options, keys), length = offset(w) - start;
    if (!reserve(w, size))
        return false;
    memmove(w->base + start + size, w->base + start, length);
    w->out = w->base + start;
    append_key_id(w, w->base + size, keys);
    w->out += length;
    for (unsigned i = 0; i < w->options->key_count; i++) {
        keys[i].type_at += size;
        keys[i].value_at += size;
        keys[i].end += size;
    }
    return true;
}

/* The element `_id`: prefix, then the number with its highest byte first. */
static bool put_object_id(struct work *w)
{
    static const uint8_t head[] = {BSON_OBJECTID, '_', 'i', 'd', 0};
    if (!reserve(w, sizeof head + 12))
        return false;
    append(w, head, sizeof head);
    append(w, w->prefix, PREFIX_LENGTH);
    for (int shift = 8 * (NUMBER_LENGTH - 1); shift >= 0; shift -= 8)
        *w->out++ = (uint8_t)(w->number >> shift);
    return true;
}

const uint8_t *put_item(struct work *w, const uint8_t *p, enum identity identity,
                        struct element keys[2])
{
    const struct options *options = w->options;
    struct names names = {0};
    keys[0].end = keys[1].end = 0;
    if (!reserve(w, 4))
        return NULL;
    size_t start = open_here(w);
    if (identity == IDENTITY_OBJECTID && !put_object_id(w))
        return NULL;
    size_t attributes_at = offset(w);
    p = skip_space(p);
    while (*p != '}') {
        p = put_attribute(w, p, &names, keys);
        if (!p || !(p = next_member(w, p, '}')))
            return NULL;
    }
    if (!keys[0].end || (options->key_count > 1 && !keys[1].end))
        return refuse(w, p, "an item without its key");
    if (names.doubtful && !names_differ(w, attributes_at, names.count))
        return w->reason ? NULL : refuse(w, p, "two names that are equal, or seem so");
    if ((identity == IDENTITY_KEY && !put_key_id(w, start + 4, keys)) || !reserve(w, 1))
        return NULL;
    close_at(w, start);
    if (offset(w) - start > MAX_DOCUMENT)
        return refuse(w, p, "a document above 16 MiB");
    return p + 1;
}

/* -- queries ----------------------------------------------------------------------------------- */

/* The key element under its path, which in raw leads into {type: value}. */
static bool put_path(struct work *w, const struct bytes *path, const struct element *key)
{
    struct element value = *key;
    if (w->options->convert == CONVERT_RAW) {
        value.type_at = key->value_at + 4;
        value.value_at = value.type_at + 1 + 2;
        value.end--;
    }
    if (!reserve(w, 1 + path->length + 1 + size_of(&value)))
        return false;
    *w->out++ = w->base[value.type_at];
    append_name(w, path);
    append(w, w->base + value.value_at, size_of(&value));
    return true;
}

bool put_query(struct work *w, const struct element keys[2])
{
    const struct options *options = w->options;
    bool by_id = options->identity == IDENTITY_KEY;
    unsigned paths = by_id ? options->sharded : options->key_count;
    if (!reserve(w, 4 + (by_id ? key_id_size(options, keys) : 0)))
        return false;
    size_t start = open_here(w);
    if (by_id)
        append_key_id(w, w->base, keys);
    for (unsigned i = 0; i < paths; i++)
        if (!put_path(w, &options->paths[i], &keys[i]))
            return false;
    if (!reserve(w, 1))
        return false;
    close_at(w, start);
    return true;
}
