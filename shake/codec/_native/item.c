/* Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html */
#include "item.h"

#include "base64.h"
#include "known.h"
#include "names.h"
#include "number.h"
#include "text.h"

#define TAG2(a, b) ((tag)(a) << 8 | (tag)(b))
#define TAG4(a, b, c, d) (TAG2(a, b) << 16 | TAG2(c, d))

static const char closing_brace[] = "the end of a value with its type was expected";

/* What any value may write without asking; who calls for one has reserved it. */
enum { VALUE_ROOM = 32 };

static struct at put_value(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                           struct known **inner);
static inline struct at put_typed(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                                  struct known **inner);
static struct at put_any_typed(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                               struct known **inner);

/* -- scalars: at.in is where the value begins -------------------------------------------------- */

static inline struct at put_string(struct work *w, struct at at, uint8_t *type_at)
{
    uint8_t *start = at.out;
    if (*at.in != '"')
        return refuse_at(w, at.in, "a string was expected");
    at = copy_text(w, (struct at){at.in + 1, start + 4});
    if (at.in) {
        *type_at = BSON_STRING;
        put32(start, (uint32_t)(at.out - start - 4));
    }
    return at;
}

static inline struct at put_number(struct work *w, struct at at, uint8_t *type_at)
{
    if (w->options->convert == CONVERT_RAW)
        return put_string(w, at, type_at);
    if (*at.in != '"')
        return refuse_at(w, at.in, "a string was expected");
    at.in++;
    return w->options->convert == CONVERT_MCHANGE ? put_nearest(w, at, type_at)
                                                  : put_exact(w, at, type_at);
}

static void close_binary(uint8_t *start, size_t length)
{
    put32(start, (uint32_t)length);
    start[4] = 0; /* the subtype */
}

/* The text is copied like any other, then decoded in its place. */
static struct at put_any_binary(struct work *w, struct at at)
{
    const uint8_t *text = at.in;
    uint8_t *start = at.out, *data = start + 5;
    if (!(at = copy_text(w, (struct at){text + 1, data})).in)
        return at;
    int64_t length = base64_decode(data, data, (size_t)(at.out - data) - 1);
    if (length < 0)
        return refuse_at(w, text, "not base64");
    close_binary(start, (size_t)length);
    return (struct at){at.in, data + length};
}

static struct at put_binary(struct work *w, struct at at, uint8_t *type_at)
{
    if (*at.in != '"')
        return refuse_at(w, at.in, "a string was expected");
    *type_at = BSON_BINARY;
    const uint8_t *p = at.in + 1;
    uint8_t *out = at.out + 5;
    size_t groups = base64_groups(out, (size_t)(w->limit - out), p, (size_t)(w->end - p));
    p += 4 * groups;
    out += 3 * groups;
    if (*p != '"' && w->end - p > 4 && p[4] == '"' && w->limit - out >= 4) {
        int64_t last = base64_decode(out, p, 4);
        if (last > 0) {
            p += 4;
            out += last;
        }
    }
    if (*p != '"')
        return put_any_binary(w, at);
    close_binary(at.out, (size_t)(out - at.out) - 5);
    return (struct at){p + 1, out};
}

static bool is_literal(const struct work *w, const uint8_t *p, const char *word, size_t length)
{
    return (size_t)(w->end - p) >= length && !memcmp(p, word, length);
}

static inline struct at put_bool(struct work *w, struct at at, uint8_t *type_at)
{
    bool value = is_literal(w, at.in, "true", 4);
    if (!value && !is_literal(w, at.in, "false", 5))
        return refuse_at(w, at.in, "neither true nor false");
    *type_at = BSON_BOOL;
    *at.out = value;
    return (struct at){at.in + (value ? 4 : 5), at.out + 1};
}

static inline struct at put_null(struct work *w, struct at at, uint8_t *type_at)
{
    if (!is_literal(w, at.in, "true", 4))
        return refuse_at(w, at.in, "a NULL that is not true");
    if (w->options->convert == CONVERT_RAW)
        return put_bool(w, at, type_at);
    *type_at = BSON_NULL;
    return (struct at){at.in + 4, at.out};
}

/* -- arrays ------------------------------------------------------------------------------------ */

/* Close the array or document that began at `start`. */
static inline struct at close_value(struct work *w, struct at at, uint8_t *start)
{
    if (!has_room(w, at.out, 1))
        return (struct at){0};
    *at.out++ = 0;
    put32(start, (uint32_t)(at.out - start));
    return at;
}

/* An element is a typed value in L, and the bare value of a scalar in a set. */
static struct at put_array(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                           tag element, struct known **inner)
{
    uint8_t *start = at.out;
    if (*at.in != '[')
        return refuse_at(w, at.in, "an array was expected");
    if (depth > MAX_DEPTH)
        return refuse_at(w, at.in, "deep nesting");
    *type_at = BSON_ARRAY;
    at.in = skip_space(at.in + 1);
    at.out += 4;
    for (uint32_t index = 0; *at.in != ']'; index++) {
        if (!has_room(w, at.out, 1 + 11 + VALUE_ROOM))
            return (struct at){0};
        uint8_t *element_type = at.out;
        at.out = put_index(at.out + 1, index);
        switch (element) {
        case 'S': at = put_string(w, at, element_type); break;
        case 'N': at = put_number(w, at, element_type); break;
        case 'B': at = put_binary(w, at, element_type); break;
        default: at = put_value(w, at, element_type, depth, inner); break;
        }
        if (!at.in || !(at.in = next_member(w, at.in, ']')))
            return (struct at){0};
    }
    at.in++;
    return close_value(w, at, start);
}

/* -- names ------------------------------------------------------------------------------------- */

/* From where a typed value begins to behind its brace and quote, where its type is. */
static inline const uint8_t *open_typed(struct work *w, const uint8_t *p)
{
    p = skip_space(p);
    if (*p != '{')
        return refuse(w, p, "a value with its type was expected");
    p = skip_space(p + 1);
    return *p == '"' ? p + 1 : refuse(w, p, "a type was expected");
}

/* A top-level `_id` is called otherwise. */
static struct at rename_id(struct work *w, struct at at, uint8_t *name)
{
    const struct bytes *renamed = &w->options->renamed;
    if (!renamed->data)
        return refuse_at(w, at.in, "an attribute _id");
    if (!has_room(w, name, renamed->length + 1))
        return (struct at){0};
    memcpy(name, renamed->data, renamed->length);
    name[renamed->length] = 0;
    return (struct at){at.in, name + renamed->length + 1};
}

/* The key that this name is, or -1. */
static int which_key(const struct options *options, const struct bytes *name)
{
    for (unsigned i = 0; i < options->key_count; i++)
        if (same_bytes(&options->keys[i].name, name))
            return (int)i;
    return -1;
}

/* Keep the name at p, of which KNOWN_TEXT bytes exist and `length` are the name, as the next that
 * is expected. NULL when it is long or not written as names mostly are, or when names are too
 * many. What is kept does not depend on where it came, so to begin anew is safe. */
static struct known *learn(struct known_names *all, struct known **expected, const uint8_t *p,
                           size_t length, struct place place, int key)
{
    if (length > LONGEST_KNOWN || memcmp(p + 1 + length, "\":{\"", 4))
        return NULL;
    if (all->count == KNOWN_NAMES) {
        if (all->renewals == RENEWALS)
            return NULL;
        all->renewals++;
        all->first = all->other.inner = NULL;
        all->count = 0;
    }
    struct known *known = &all->names[all->count++];
    memcpy(known->text, p, KNOWN_TEXT);
    known->length = (uint8_t)(length + AROUND_NAME);
    known->mask = UINT32_MAX >> (KNOWN_TEXT - known->length);
    known->key = (int8_t)key;
    known->place = place;
    known->next = *expected;
    known->inner = NULL;
    return *expected = known;
}

/* Write an element's type (later) and name; at.in is at the name's quote. Reads up to the type of
 * its value, behind the quote. */
static inline struct at put_known(struct at at, struct names *names, const struct known *known)
{
    memcpy(at.out, at.in, KNOWN_TEXT);
    at.in += known->length;
    at.out += known->length - AROUND_NAME + 1;
    *at.out++ = 0;
    add_place(names, &known->place);
    return at;
}

/* Likewise, of a name that is not known. It is from now on, or `other` stands for it. */
static struct at put_new_name(struct work *w, struct at at, bool top, struct names *names,
                              struct known **expected, struct known **known)
{
    const uint8_t *start = at.in;
    if (*start != '"')
        return refuse_at(w, start, "a name was expected");
    if (!has_room(w, at.out, 1 + CHARACTER))
        return (struct at){0};
    uint8_t *name = at.out + 1;
    w->zero = false;
    if (!(at = copy_text(w, (struct at){start + 1, name})).in)
        return at;
    if (w->zero)
        return refuse_at(w, start, "a name that holds U+0000");
    struct bytes text = {name, (size_t)(at.out - name) - 1};
    bool plain = at.in - start == (ptrdiff_t)text.length + 2; /* it is written as it is */
    if (!(at.in = expect(w, at.in, ':', "a colon was expected")) ||
        !(at.in = open_typed(w, at.in)))
        return at;
    int key = which_key(w->options, &text);
    struct place place = place_of(name, text.length);
    *known = NULL;
    if (is_word(&text, "_id")) {
        if (top && !(at = rename_id(w, at, name)).in)
            return at;
        place = place_of(name, (size_t)(at.out - name) - 1);
    } else if (plain && *name != '$' && is_far(w, at)) {
        *known = learn(w->known, expected, start, text.length, place, key);
    }
    w->operators |= top && *name == '$';
    if (!*known) {
        *known = &w->known->other;
        (*known)->key = (int8_t)key;
    }
    add_place(names, &place);
    return has_room(w, at.out, VALUE_ROOM) ? at : (struct at){0};
}

/* Likewise, of one that is not the expected one. */
static struct at put_other_name(struct work *w, struct at at, bool top, struct names *names,
                                struct known **expected, struct known **known)
{
    *known = is_far(w, at) ? look_ahead(*expected, at.in) : NULL;
    return *known ? put_known(at, names, *known)
                  : put_new_name(w, at, top, names, expected, known);
}

static inline struct at put_name(struct work *w, struct at at, bool top, struct names *names,
                                 struct known **expected, struct known **known)
{
    struct known *found = *expected;
    if (found && is_far(w, at) && is_known(found, at.in))
        at = put_known(at, names, found);
    else
        at = put_other_name(w, at, top, names, expected, &found);
    *known = found;
    return at;
}

/* Refuse elements, up to at.out, two of which have one name. */
static inline struct at check_names(struct work *w, struct at at, const struct names *names,
                                    const uint8_t *elements)
{
    struct bytes fields = {elements, (size_t)(at.out - elements)};
    if (!names->twice || names_differ(w, fields))
        return at;
    return w->reason ? (struct at){0}
                     : refuse_at(w, at.in, "two names that are equal, or seem so");
}

/* -- typed values ------------------------------------------------------------------------------ */

/* Write an object's elements and end; at.in is behind its opening brace. */
static struct at put_map(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                         struct known **expected)
{
    uint8_t *start = at.out;
    if (*at.in != '{')
        return refuse_at(w, at.in, "an object was expected");
    if (depth > MAX_DEPTH)
        return refuse_at(w, at.in, "deep nesting");
    *type_at = BSON_DOCUMENT;
    struct names names;
    struct known *known;
    begin_names(&names);
    at.in = skip_space(at.in + 1);
    at.out += 4;
    while (*at.in != '}') {
        uint8_t *element_type = at.out;
        if (!(at = put_name(w, at, false, &names, expected, &known)).in)
            return at;
        if (is_kept(known)) {
            expected = &known->next;
            at = put_typed(w, at, element_type, depth, &known->inner);
        } else {
            at = put_any_typed(w, at, element_type, depth, &known->inner);
        }
        if (!at.in || !(at.in = next_member(w, at.in, '}')))
            return (struct at){0};
    }
    if (!(at = check_names(w, at, &names, start + 4)).in)
        return at;
    at.in++;
    return close_value(w, at, start);
}

/* As the type's letters up to what stands behind the colon. */
static inline const uint8_t *read_tag(struct work *w, const uint8_t *p, tag *type)
{
    if (p[0] && p[1] == '"' && p[2] == ':') { /* mostly */
        *type = p[0];
        return skip_space(p + 3);
    }
    *type = 0;
    for (unsigned i = 0; i < 4 && *p >= 'A' && *p <= 'Z'; i++)
        *type = *type << 8 | *p++;
    if (*p != '"')
        return refuse(w, p, "an unknown type");
    p = expect(w, p + 1, ':', "a colon was expected");
    return p ? skip_space(p) : NULL;
}

static inline struct at put_by_type(struct work *w, struct at at, tag type, uint8_t *type_at,
                                    unsigned depth, struct known **inner)
{
    switch (type) {
    case 'S': return put_string(w, at, type_at);
    case 'N': return put_number(w, at, type_at);
    case 'B': return put_binary(w, at, type_at);
    case TAG4('B', 'O', 'O', 'L'): return put_bool(w, at, type_at);
    case TAG4('N', 'U', 'L', 'L'): return put_null(w, at, type_at);
    case 'M': return put_map(w, at, type_at, depth + 1, inner);
    case 'L': return put_array(w, at, type_at, depth + 1, 'L', inner);
    case TAG2('S', 'S'): return put_array(w, at, type_at, depth, 'S', inner);
    case TAG2('N', 'S'): return put_array(w, at, type_at, depth, 'N', inner);
    case TAG2('B', 'S'): return put_array(w, at, type_at, depth, 'B', inner);
    default: return refuse_at(w, at.in, "an unknown type");
    }
}

/* In raw, a document {type: value} begins; returns where the inner type goes. */
static uint8_t *open_raw(struct at *at, tag type, uint8_t *type_at)
{
    uint8_t *inner_type = at->out + 4;
    *type_at = BSON_DOCUMENT;
    at->out += 4 + 1;
    for (unsigned shift = 32; shift;)
        if ((type >> (shift -= 8)) & 0xff)
            *at->out++ = (uint8_t)(type >> shift);
    *at->out++ = 0;
    return inner_type;
}

/* As put_typed, however it is written. */
static struct at put_any_typed(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                               struct known **inner)
{
    bool raw = w->options->convert == CONVERT_RAW;
    uint8_t *start = at.out;
    tag type;
    if (!(at.in = read_tag(w, at.in, &type)))
        return at;
    if (raw)
        type_at = open_raw(&at, type, type_at);
    at = put_by_type(w, at, type, type_at, depth, inner);
    if (!at.in || !(at.in = expect(w, at.in, '}', closing_brace)))
        return at;
    return raw ? close_value(w, at, start) : at;
}

/* A BOOL or NULL whose type and value are written `BOOL":true}`; `in` is NULL if they are not. */
static inline struct at put_word(struct at at, bool null, uint8_t *type_at)
{
    uint64_t rest = get64(at.in + 4);
    bool yes = rest << 8 == get64((const uint8_t *)"\":true}") << 8;
    if (!yes && (null || rest != get64((const uint8_t *)"\":false}")))
        return (struct at){0};
    *type_at = null ? BSON_NULL : BSON_BOOL;
    *at.out = yes;
    return (struct at){at.in + (yes ? 11 : 12), at.out + !null};
}

/* Write a value from its type on, and read its closing brace. Both ends must be far. */
static inline struct at put_typed(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                                  struct known **inner)
{
    enum convert convert = w->options->convert;
    uint32_t head = get32(at.in);
    struct at word;
    if (convert == CONVERT_RAW)
        return put_any_typed(w, at, type_at, depth, inner);
    if (head == TAG4('"', ':', '"', 'S'))
        at = put_string(w, (struct at){at.in + 3, at.out}, type_at);
    else if (head == TAG4('"', ':', '"', 'N') && convert == CONVERT_CHANGE)
        at = put_exact(w, (struct at){at.in + 4, at.out}, type_at);
    else if ((head == TAG4('L', 'O', 'O', 'B') || head == TAG4('L', 'L', 'U', 'N')) &&
             (word = put_word(at, head == TAG4('L', 'L', 'U', 'N'), type_at)).in)
        return word;
    else
        return put_any_typed(w, at, type_at, depth, inner);
    if (at.in)
        at.in = expect(w, at.in, '}', closing_brace);
    return at;
}

static struct at put_value(struct work *w, struct at at, uint8_t *type_at, unsigned depth,
                           struct known **inner)
{
    at.in = open_typed(w, at.in);
    if (!at.in)
        return at;
    return is_far(w, at) ? put_typed(w, at, type_at, depth, inner)
                         : put_any_typed(w, at, type_at, depth, inner);
}

/* -- items ------------------------------------------------------------------------------------- */

/* Keep where a key attribute was written, whose type is at p; false when it refused. */
static bool take_key(struct work *w, const uint8_t *p, int key, uint8_t *type_at,
                     uint8_t *value_at, uint8_t *end, struct element keys[2])
{
    const struct options *options = w->options;
    if (*p != options->keys[key].type || p[1] != '"')
        return refuse(w, p, "a key attribute of another type");
    if (*p == 'N' && options->convert == CONVERT_MCHANGE &&
        options->exact_keys && !w->kept)
        return refuse(w, p, "a key that may change as a double");
    keys[key] = (struct element){(size_t)(type_at - w->base), (size_t)(value_at - w->base),
                                 (size_t)(end - w->base)};
    return true;
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
    if (!reserve(w, sizeof head + 12 + 3))
        return false;
    append(w, head, sizeof head);
    append(w, w->prefix, PREFIX_LENGTH);
    put64(w->out, __builtin_bswap64(w->number << 24)); /* 3 bytes more than it has */
    w->out += NUMBER_LENGTH;
    return true;
}

/* Write the attributes, and tell of the key ones; at.in is behind the opening brace. */
static struct at put_attributes(struct work *w, struct at at, struct element keys[2])
{
    struct names names;
    struct known **expected = &w->known->first, *known;
    const uint8_t *elements = at.out;
    begin_names(&names);
    at.in = skip_space(at.in);
    while (*at.in != '}') {
        uint8_t *type_at = at.out;
        if (!(at = put_name(w, at, true, &names, expected, &known)).in)
            return at;
        struct at value = at;
        int key = known->key; /* now, since a name inside of the value may come to lie there */
        if (is_kept(known)) {
            expected = &known->next;
            at = put_typed(w, at, type_at, 0, &known->inner);
        } else {
            at = put_any_typed(w, at, type_at, 0, &known->inner);
        }
        if (!at.in)
            return at;
        if (key >= 0 && !take_key(w, value.in, key, type_at, value.out, at.out, keys))
            return (struct at){0};
        if (!(at.in = next_member(w, at.in, '}')))
            return at;
    }
    return check_names(w, at, &names, elements);
}

const uint8_t *put_item(struct work *w, const uint8_t *p, enum identity identity,
                        struct element keys[2])
{
    keys[0].end = keys[1].end = 0;
    if (!reserve(w, 4))
        return NULL;
    size_t start = open_here(w);
    if (identity == IDENTITY_OBJECTID && !put_object_id(w))
        return NULL;
    struct at at = put_attributes(w, (struct at){p, w->out}, keys);
    if (!(p = at.in))
        return NULL;
    w->out = at.out;
    if (!keys[0].end || (w->options->key_count > 1 && !keys[1].end))
        return refuse(w, p, "an item without its key");
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
