/* One page being transcoded: where the input ends, where the output goes, and why it stopped.
 *
 * The rules that keep this code inside its memory:
 *
 * - Input: the byte at `end` exists and is 0. No rule of JSON takes a 0, so whoever reads byte by
 *   byte, each only after the one before was accepted, stops there. Whoever reads several bytes
 *   at once compares with `end` first.
 * - Output: `reserve` or `has_room` before writing.
 * - A function that reads returns where it stopped reading, or NULL when it refused. One that
 *   writes, too, returns both places: so they stay in registers, which matters, since the compiler
 *   must take a write to bytes for a change to all of `struct work`. */
#ifndef SHAKE_WORK_H
#define SHAKE_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && !defined(SHAKE_PORTABLE)
#define SHAKE_SSE2 /* which all of these have */
#include <emmintrin.h>
#endif

/* Bytes of a page and of a document that this codec takes on. Nothing that grows from a page of
 * this size reaches the 2 GiB of a BSON length. The other limit is MongoDB's:
 * https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-BSON-Document-Size */
enum { MAX_PAGE = 128 << 20, MAX_DOCUMENT = 16 << 20 };

/* An ObjectId: a prefix, and a number in 5 bytes. */
enum { PREFIX_LENGTH = 7, NUMBER_LENGTH = 5 };

/* Levels of L and M. DynamoDB allows 32: the reference decides about more. */
enum { MAX_DEPTH = 64 };

enum bson_type {
    BSON_DOUBLE = 0x01,
    BSON_STRING = 0x02,
    BSON_DOCUMENT = 0x03,
    BSON_ARRAY = 0x04,
    BSON_BINARY = 0x05,
    BSON_OBJECTID = 0x07,
    BSON_BOOL = 0x08,
    BSON_NULL = 0x0a,
    BSON_INT32 = 0x10,
    BSON_INT64 = 0x12,
    BSON_DECIMAL128 = 0x13,
};

enum convert { CONVERT_CHANGE, CONVERT_MCHANGE, CONVERT_RAW };

/* What `_id` is: the target may know it already, or give one. */
enum identity { IDENTITY_OBJECTID, IDENTITY_KEY, IDENTITY_NONE };

/* A DynamoDB type as a number: its letters, the first highest. */
typedef uint32_t tag;

struct bytes {
    const uint8_t *data;
    size_t length;
};

struct key {
    struct bytes name;
    tag type;
};

struct options {
    enum convert convert;
    bool overflow_is_error;
    enum identity identity;
    bool exact_keys; /* a key must not change as a double */
    struct bytes renamed; /* what a top-level `_id` becomes; never `_id`, never with U+0000 */
    struct key keys[2];
    unsigned key_count; /* 1 or 2 */

    /* For changes: */
    struct bytes paths[2]; /* of the keys, never with U+0000 */
    bool sharded, upsert, insert_only;
};

/* Where reading and writing have come to; `in` is NULL when it refused. */
struct at {
    const uint8_t *in;
    uint8_t *out;
};

struct work {
    const struct options *options;
    struct known_names *known;   /* while items are written; ... */
    uintptr_t far_in, far_out;   /* ... up to these places, both ends are far */
    const uint8_t *end;
    uint8_t *base, *out, *limit; /* output: written from base to out, room up to limit */
    const uint8_t *prefix;       /* of every ObjectId, unused where the key is the `_id`; ... */
    uint64_t number;             /* ... and the running number of the next one */
    bool zero;                   /* set when a text held U+0000 */
    bool kept;                   /* the last number that became a double is surely its text */
    bool operators;              /* set when a document has a name that starts with $ */
    const char *reason;          /* why it stopped, and where; NULL: it did not */
    const uint8_t *where;
};

extern const char no_memory[]; /* a reason that is not about the input */

static inline bool same_bytes(const struct bytes *one, const struct bytes *other)
{
    return one->length == other->length &&
           (!one->length || !memcmp(one->data, other->data, one->length));
}

static inline bool is_word(const struct bytes *text, const char *word)
{
    return text->length == strlen(word) && !memcmp(text->data, word, text->length);
}

/* Stop: the input is wrong, or valid but too rare to be worth a second implementation. */
static inline const uint8_t *refuse(struct work *w, const uint8_t *where, const char *reason)
{
    w->reason = reason;
    w->where = where;
    return NULL;
}

static inline struct at refuse_at(struct work *w, const uint8_t *where, const char *reason)
{
    return (struct at){refuse(w, where, reason), NULL};
}

/* -- output ------------------------------------------------------------------------------------ */

/* Whether there is room for `need` bytes more; if not, the item is for another slot. */
static inline bool has_room(struct work *w, const uint8_t *out, size_t need)
{
    return (size_t)(w->limit - out) >= need || refuse(w, w->end, "no room");
}

static inline bool reserve(struct work *w, size_t need)
{
    return has_room(w, w->out, need);
}

static inline size_t offset(const struct work *w)
{
    return (size_t)(w->out - w->base);
}

/* BSON is little-endian. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LITTLE32(value) __builtin_bswap32(value)
#define LITTLE64(value) __builtin_bswap64(value)
#else
#define LITTLE32(value) (value)
#define LITTLE64(value) (value)
#endif

static inline void put64(uint8_t *to, uint64_t value)
{
    value = LITTLE64(value);
    memcpy(to, &value, 8);
}

static inline void put32(uint8_t *to, uint32_t value)
{
    value = LITTLE32(value);
    memcpy(to, &value, 4);
}

static inline uint32_t get32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, 4);
    return LITTLE32(value);
}

static inline uint64_t get64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, 8);
    return LITTLE64(value);
}

static inline void append(struct work *w, const void *data, size_t length)
{
    memcpy(w->out, data, length);
    w->out += length;
}

static inline void append32(struct work *w, uint32_t value)
{
    value = LITTLE32(value);
    append(w, &value, 4);
}

/* An element's name. */
static inline void append_name(struct work *w, const struct bytes *name)
{
    append(w, name->data, name->length);
    *w->out++ = 0;
}

/* The name of an array's element, with its closing 0; at most 11 bytes. */
static inline uint8_t *put_index(uint8_t *out, uint32_t index)
{
    uint8_t digits[10];
    unsigned count = 0;
    for (; index >= 10; index /= 10)
        digits[count++] = (uint8_t)('0' + index % 10);
    *out++ = (uint8_t)('0' + index);
    while (count)
        *out++ = digits[--count];
    *out++ = 0;
    return out;
}

/* A document or array begins, 4 bytes reserved before; its length is written by `close_at`. */
static inline size_t open_here(struct work *w)
{
    size_t start = offset(w);
    w->out += 4;
    return start;
}

/* ... and ends, 1 byte reserved before. */
static inline void close_at(struct work *w, size_t start)
{
    *w->out++ = 0;
    put32(w->base + start, (uint32_t)(offset(w) - start));
}

/* -- input ------------------------------------------------------------------------------------- */

static inline const uint8_t *skip_space(const uint8_t *p)
{
    while (*p <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Behind the next character, which must be this one. */
static inline const uint8_t *expect(struct work *w, const uint8_t *p, uint8_t character,
                                    const char *reason)
{
    if (*p == character) /* mostly */
        return p + 1;
    p = skip_space(p);
    return *p == character ? p + 1 : refuse(w, p, reason);
}

/* Behind the comma, at what follows it; or at the closing bracket. */
static inline const uint8_t *next_member(struct work *w, const uint8_t *p, uint8_t closing)
{
    if (p[0] == ',' && p[1] == '"') /* mostly */
        return p + 1;
    p = skip_space(p);
    if (*p == ',') {
        p = skip_space(p + 1);
        return *p == closing ? refuse(w, p, "a comma with nothing behind it") : p;
    }
    return *p == closing ? p : refuse(w, p, "a comma or closing bracket was expected");
}

#endif
