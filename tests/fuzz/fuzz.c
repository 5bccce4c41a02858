/* Throws damaged responses and stored documents at the codec, to be run under sanitizers
 * (`make fuzz`).
 *
 * `LLVMFuzzerTestOneInput` is what libFuzzer calls. Without clang, built with -DSHAKE_DRIVER, a
 * small driver damages its seeds by itself: always in the same order for one -seed=N, until
 * -max_total_time=SECONDS or -runs=N is over. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fuzz.h"
#include "page.h"
#include "records.h"

void fail(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

/* Behind the BSON document at p, which must end by `end`. */
static const uint8_t *check_document(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 5 || get32(p) < 5 || get32(p) > (size_t)(end - p))
        fail("a document with a wrong length");
    end = p + get32(p) - 1;
    if (*end)
        fail("a document without its end");
    for (p += 4; p < end;) {
        uint8_t type = *p++;
        while (p < end && *p)
            p++;
        if (p++ >= end)
            fail("a name without end");
        size_t left = (size_t)(end - p), size;
        switch (type) {
        case BSON_DOCUMENT: case BSON_ARRAY: p = check_document(p, end); continue;
        case BSON_STRING: size = left < 4 ? left + 1 : 4 + (size_t)get32(p); break;
        case BSON_BINARY: size = left < 4 ? left + 1 : 5 + (size_t)get32(p); break;
        case BSON_DOUBLE: case BSON_INT64: size = 8; break;
        case BSON_OBJECTID: size = 12; break;
        case BSON_BOOL: size = 1; break;
        case BSON_NULL: size = 0; break;
        case BSON_INT32: size = 4; break;
        case BSON_DECIMAL128: size = 16; break;
        default: size = left + 1; break;
        }
        if (size > left)
            fail("a value beyond its document");
        if (type == BSON_STRING && (size < 5 || p[size - 1]))
            fail("a string without its end");
        p += size;
    }
    if (p != end)
        fail("elements beyond their document");
    return end + 1;
}

/* Into a slot of this size, for the sanitizer to see its end. */
static void transcode(const uint8_t *body, size_t length, const struct options *options,
                      size_t slot)
{
    struct work w = {.options = options, .end = body + length};
    struct page page = {0};
    w.prefix = (const uint8_t *)"1234567";
    w.base = malloc(slot);
    if (!w.base)
        fail("no memory");
    w.limit = w.base + slot;
    w.out = w.base;
    bool accepted = open_page(&w, body, "Items", &page) && put_items(&w, body, &page);
    const uint8_t *p = w.base;
    for (size_t i = 0; i < page.count; i++)
        p = check_document(p, w.out);
    if (p != w.out)
        fail("not what the page says");
    if (accepted && (page.array_end > length || page.array_at >= page.array_end))
        fail("items that are not in the page");
    if (!accepted && (!w.reason || w.where < body || w.where > w.end))
        fail("a refusal without reason or place");
    free(w.base);
}

/* The same of changes. */
static void make_statements(const uint8_t *body, size_t length, const struct options *options, size_t slot)
{
    struct work w = {.options = options, .end = body + length};
    struct records records = {0};
    struct written written = {0};
    bool accepted = read_records(&w, body, &records);
    uint8_t *room = malloc(slot);
    if (!room)
        fail("no memory");
    w.base = w.out = room;
    w.limit = w.base + slot;
    if (accepted) {
        accepted = put_statements(&w, &records, &written);
        size_t given = written.counts[0] + written.counts[1] + written.counts[2];
        const uint8_t *p = w.base;
        for (size_t i = 0; i < given; i++)
            p = check_document(p, w.out);
        if (p != w.out || given > records.change_count || records.change_count > records.page.count)
            fail("not what the statements say");
    }
    if (!accepted && (!w.reason || w.where < body || w.where > w.end))
        fail("a refusal without reason or place");
    free_records(&records);
    free(room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t renamed[] = "a name that is longer than what one step of copying reserves_id";
    static const struct options base = {
        .renamed = {renamed, sizeof renamed - 1},
        .keys = {{{(const uint8_t *)"pk", 2}, 'S'}, {{(const uint8_t *)"sk", 2}, 'N'}},
        .paths = {{(const uint8_t *)"pk.S", 4}, {(const uint8_t *)"sk.N", 4}},
    };
    uint8_t *body = malloc(size + 1); /* of its very size, for the sanitizer to see its ends */
    if (!body)
        fail("no memory");
    memcpy(body, data, size);
    body[size] = 0;
    for (unsigned choice = 0; choice < 12; choice++) {
        struct options options = base;
        options.convert = (enum convert)(choice / 4);
        options.identity = choice % 2 ? IDENTITY_KEY : IDENTITY_OBJECTID;
        options.exact_keys = choice % 3;
        options.overflow_is_error = choice / 2 % 2;
        options.key_count = choice % 3 ? 1 : 2;
        transcode(body, size, &options, choice % 2 ? 1 << 16 : size + 40);
        options.identity = choice % 2 ? IDENTITY_KEY : IDENTITY_NONE;
        options.exact_keys = true;
        options.sharded = options.insert_only = choice / 2 % 2;
        make_statements(body, size, &options, choice % 2 ? 1 << 16 : size / 2);
    }
    free(body);
    read_stored(data, size);
    return 0;
}

#ifdef SHAKE_DRIVER

#define BYTES(text) {(const uint8_t *)(text), sizeof(text) - 1}

static const struct bytes seeds[] = {
    BYTES(
    "{\"Items\":[{\"pk\":{\"S\":\"a\"},\"sk\":{\"N\":\"-12.50\"},\"_id\":{\"B\":\"AP8=\"},\"n\":{"
    "\"NS\":[\"7\",\"1E+2\",\"123456789012345678901234567890123456\",\"0.1\",\"9223372036854775807"
    "\"]},\"l\":{\"L\":[{\"BOOL\":false},{\"NULL\":true},{\"M\":{\"x\":{\"SS\":[\"y\"]}}},{\"BS\":["
    "\"AAAA\"]}]}},{\"pk\":{\"S\":\"b\"},\"sk\":{\"N\":\"0\"}}],\"Count\":2,\"ScannedCount\":2,"
    "\"LastEvaluatedKey\":{\"pk\":{\"S\":\"b\"},\"sk\":{\"N\":\"0\"}}}"),
    BYTES(
    "{\"Count\":1,\"Items\":[{\"pk\":{\"S\":\"\\u20ac\\ud83d\\ude00\\n\\\"\\\\\"},\"sk\":{\"N\":"
    "\"1E-130\"},\"text\":{\"S\":\"plain text that is longer than a chunk \xe6\x9d\xb1\xe4\xba\xac "
    "\xc3\xa9\xf0\x9f\x98\x80\"}}],\"ScannedCount\":1}"),
    BYTES(
    " { \"Items\" : [ { \"sk\" : { \"N\" : \"+1.5e3\" } , \"pk\" : { \"S\" : \"\" } , \"m\" : { "
    "\"M\" : { \"a\" : { \"M\" : { } } , \"b\" : { \"L\" : [ ] } } } } ] } "),
    BYTES(
    "{\"Records\":[{\"dynamodb\":{\"ApproximateCreationDateTime\":1.4E9,\"Keys\":{\"pk\":{\"S\":\"a\"},"
    "\"sk\":{\"N\":\"1.5\"}},\"NewImage\":{\"pk\":{\"S\":\"a\"},\"sk\":{\"N\":\"1.5\"},\"$v\":{\"SS\":["
    "\"x\"]}},\"OldImage\":{\"x\":[null,-0.5,\"\\u20ac\"]},\"SequenceNumber\":\"12\"},\"eventName\":"
    "\"MODIFY\"},{\"eventName\":\"INSERT\",\"dynamodb\":{\"SequenceNumber\":\"13\",\"NewImage\":{\"pk\""
    ":{\"S\":\"b\"},\"sk\":{\"N\":\"2\"}},\"Keys\":{\"sk\":{\"N\":\"2\"},\"pk\":{\"S\":\"b\"}}}},{"
    "\"eventName\":\"REMOVE\",\"dynamodb\":{\"SequenceNumber\":\"14\",\"Keys\":{\"pk\":{\"S\":\"a\"},"
    "\"sk\":{\"N\":\"1.5\"}}}}],\"NextShardIterator\":\"n\"}"),
    BYTES("T\0\0\0\2_id\0\2\0\0\0a\0\2pk\0\2\0\0\0a\0\20sk\0\371\377\377\377\4x\0$\0\0\0\20\060\0\1\0\0"
          "\0\2\061\0\2\0\0\0y\0\3\062\0\14\0\0\0\12z\0\10w\0\1\0\0\1d\0\0\0\0\0\0\0\370\77\0U\0\0\0\3_"
          "id\0#\0\0\0\2pk\0\2\0\0\0a\0\23sk\0\226\0\0\0\0\0\0\0\0\0\0\0\0\0<0\0\2pk\0\2\0\0\0a\0\23sk"
          "\0\226\0\0\0\0\0\0\0\0\0\0\0\0\0<0\5b\0\2\0\0\0\0\0\1\0,\0\0\0\7_id\0\06123456789012\2pk\0\2"
          "\0\0\0b\0\22sk\0\0\0\0\0\0\1\0\0\0"),
    BYTES("\207\0\0\0\3_id\0)\0\0\0\3pk\0\16\0\0\0\2S\0\2\0\0\0a\0\0\3sk\0\16\0\0\0\2N\0\2\0\0\0\061\0"
          "\0\0\3pk\0\16\0\0\0\2S\0\2\0\0\0a\0\0\3sk\0\16\0\0\0\2N\0\2\0\0\0\061\0\0\3m\0-\0\0\0\3M\0%"
          "\0\0\0\3q\0\35\0\0\0\4L\0\25\0\0\0\3\060\0\15\0\0\0\2S\0\1\0\0\0\0\0\0\0\0\0\0Y\0\0\0\3_id\0"
          "\16\0\0\0\2S\0\2\0\0\0b\0\0\3pk\0\16\0\0\0\2S\0\2\0\0\0b\0\0\13re\0a\0i\0\17c\0\26\0\0\0\2\0"
          "\0\0x\0\14\0\0\0\20y\0\1\0\0\0\0\21t\0\2\0\0\0\1\0\0\0\377k\0\0"),
    BYTES("t\0\0\0\3cursor\0[\0\0\0\4firstBatch\0\062\0\0\0\3\060\0\30\0\0\0\20_id\0\1\0\0"
          "\0\2pk\0\2\0\0\0a\0\0\3\061\0\17\0\0\0\2pk\0\2\0\0\0b\0\0\0\22id\0\7\0\0\0\0\0\0"
          "\0\2ns\0\4\0\0\0d.c\0\0\1ok\0\0\0\0\0\0\0\360\77\0"),
};
static const char *const splices[] = {
    "\"", "\\", "{", "}", "[", "]", ",", ":", "0", "9", "-", ".", "e", "=", " ", "\xff", "\xed\xa0",
    "\\u0000", "\\ud800", "{\"N\":\"1\"}", "\"pk\":{\"S\":\"\"},", "{\"L\":[", "{\"M\":{\"\":",
    "\"Items\":[]", "99999999999999999999999999999999999999", "e-999999999", "AAAA", "true",
    "null", "\"NewImage\":", "\"Keys\":{}", "REMOVE", "INSERT", "\"Records\":[]", "{\"dynamodb\":{",
};
enum { SEEDS = sizeof seeds / sizeof *seeds, SPLICES = sizeof splices / sizeof *splices };
enum { MOST = 4096 };

static uint64_t state;

/* xorshift64*: https://en.wikipedia.org/wiki/Xorshift */
static size_t below(size_t limit)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (size_t)((state * 0x2545f4914f6cdd1du) >> 33) % limit;
}

/* Replace up to `cut` bytes somewhere by these; returns the new length. */
static size_t splice(uint8_t *body, size_t length, const void *by, size_t size, size_t cut)
{
    size_t at = below(length + 1);
    if (cut > length - at)
        cut = length - at;
    if (length - cut + size > MOST)
        return length;
    memmove(body + at + size, body + at + cut, length - at - cut);
    memcpy(body + at, by, size);
    return length - cut + size;
}

static size_t damage(uint8_t *body, size_t length)
{
    uint8_t copy[64], byte = (uint8_t)below(256);
    size_t size, at;
    switch (below(4)) {
    case 0:
        return splice(body, length, &byte, 1, below(2));
    case 1:
        return below(length + 1);
    case 2:
        size = below(length < sizeof copy ? length + 1 : sizeof copy + 1);
        at = below(length - size + 1);
        memcpy(copy, body + at, size);
        return splice(body, length, copy, size, below(sizeof copy));
    default:
        at = below(SPLICES);
        return splice(body, length, splices[at], strlen(splices[at]), below(4));
    }
}

int main(int count, char **arguments)
{
    unsigned long long runs = ~0ull, seconds = 10, seed = 1, done = 0;
    for (int i = 1; i < count; i++)
        if (sscanf(arguments[i], "-runs=%llu", &runs) != 1 &&
            sscanf(arguments[i], "-max_total_time=%llu", &seconds) != 1 &&
            sscanf(arguments[i], "-seed=%llu", &seed) != 1) {
            fprintf(stderr, "fuzz: [-max_total_time=SECONDS] [-runs=N] [-seed=N]\n");
            return 2;
        }
    state = seed * 2 + 1;
    uint8_t body[MOST];
    for (time_t until = time(NULL) + (time_t)seconds; done < runs && time(NULL) < until; done++) {
        const struct bytes *one = &seeds[below(SEEDS)];
        size_t length = one->length;
        memcpy(body, one->data, length);
        for (size_t times = below(6); times > 0; times--)
            length = damage(body, length);
        LLVMFuzzerTestOneInput(body, length);
    }
    printf("fuzz: %llu pages, no failure\n", done);
    return 0;
}

#endif
