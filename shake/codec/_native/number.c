#include "number.h"

#include <float.h>
#include <stdlib.h>

/* https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html */
enum { MAX_DIGITS = 38, MIN_POWER = -130, MAX_POWER = 125 };

/* https://github.com/mongodb/specifications/blob/master/source/bson-decimal128/decimal128.md */
enum { DECIMAL128_DIGITS = 34, DECIMAL128_BIAS = 6176 };

/* Longest decimal notation: sign, "0.", 129 zeros and 38 digits. */
enum { MAX_PLAIN = 1 + 2 + 129 + MAX_DIGITS };

static const uint64_t ten_to[20] = {
    1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u,
    10000000000u, 100000000000u, 1000000000000u, 10000000000000u, 100000000000000u,
    1000000000000000u, 10000000000000000u, 100000000000000000u, 1000000000000000000u,
    10000000000000000000u,
};

static inline bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* -- short numbers ----------------------------------------------------------------------------- */

/* A number of up to 16 digits, or of 18 with a point in it: nearly all. The last of the places is
 * no 0. */
struct brief {
    bool negative;
    unsigned places; /* digits behind the point */
    uint64_t coefficient;
};

/* Digits that are read at once, and bytes that may be looked at. There are as many in front of
 * every number of an item. */
enum { RUN = 16, LONGEST_BRIEF = 1 + RUN + 1 + RUN + 1 };

#define ZEROS 0x3030303030303030u /* "00000000" */

/* How many of the 8 bytes are from 0 to 9, up to the first that is not. */
static inline unsigned count_digits(uint64_t values)
{
    /* The high bit of what is above 9; a carry spoils only what follows. */
    uint64_t others = ((values + 0x7676767676767676u) | values) & 0x8080808080808080u;
    return others ? (unsigned)__builtin_ctzll(others) / 8 : 8;
}

/* The value of the first digits, 1 to 8 bytes of 0 to 9. */
static inline uint64_t value_of_digits(uint64_t chunk, unsigned count)
{
    uint64_t v = chunk << (64 - 8 * count); /* zeros in front */
    v = v * 10 + (v >> 8);
    return ((v & 0x000000ff000000ffu) * 0x000f424000000064u +
            (v >> 16 & 0x000000ff000000ffu) * 0x0000271000000001u) >> 32;
}

/* Read up to RUN digits, of RUN bytes that exist; returns how many. */
static inline unsigned read_run(const uint8_t *p, uint64_t *value)
{
#ifdef SHAKE_SSE2
    static const uint8_t ends[2 * RUN] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                          0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255,
                                          255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    const __m128i zeros = _mm_set1_epi8('0'), nines = _mm_set1_epi8(9);
    __m128i chunk = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)p), zeros);
    __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(chunk, nines), chunk);
    unsigned count = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(digits));
    /* The bytes that end with the last digit, 0 for those in front of the first; then together by
     * 2, by 4 and by 8. */
    chunk = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(p + count - RUN)), zeros);
    chunk = _mm_and_si128(chunk, _mm_loadu_si128((const __m128i *)(ends + count)));
    chunk = _mm_add_epi16(
        _mm_mullo_epi16(_mm_and_si128(chunk, _mm_set1_epi16(255)), _mm_set1_epi16(10)),
        _mm_srli_epi16(chunk, 8));
    chunk = _mm_madd_epi16(chunk, _mm_set1_epi32(1 << 16 | 100));
    chunk = _mm_madd_epi16(_mm_packs_epi32(chunk, chunk), _mm_set1_epi32(1 << 16 | 10000));
    uint64_t halves = (uint64_t)_mm_cvtsi128_si64(chunk);
    *value = (halves & UINT32_MAX) * ten_to[8] + (halves >> 32);
    return count;
#else
    uint64_t chunk = get64(p) ^ ZEROS;
    unsigned count = count_digits(chunk), more;
    *value = count ? value_of_digits(chunk, count) : 0;
    if (count < 8)
        return count;
    chunk = get64(p + 8) ^ ZEROS;
    more = count_digits(chunk);
    if (more)
        *value = *value * ten_to[more] + value_of_digits(chunk, more);
    return 8 + more;
#endif
}

/* NULL when the number is another one; nothing is refused here. */
static inline const uint8_t *read_brief(const struct work *w, const uint8_t *p, struct brief *b)
{
    if (w->end - p < LONGEST_BRIEF)
        return NULL;
    b->negative = *p == '-';
    p += b->negative;
    unsigned whole = read_run(p, &b->coefficient);
    if (whole == 0)
        return NULL;
    p += whole;
    b->places = 0;
    if (*p == '.') {
        uint64_t fraction;
        b->places = read_run(p + 1, &fraction);
        p += 1 + b->places;
        if (b->places == 0 || whole + b->places > 18)
            return NULL;
        b->coefficient = b->coefficient * ten_to[b->places] + fraction;
        if (p[-1] == '0')
            for (; b->places > 0 && b->coefficient % 10 == 0; b->places--)
                b->coefficient /= 10;
    }
    return *p == '"' ? p + 1 : NULL;
}

/* -- long numbers ------------------------------------------------------------------------------ */

/* One of as many digits as a Decimal128 has, with no 0 at the end of a fraction. */
struct extended {
    bool negative;
    unsigned digits, places; /* leading zeros are counted, too */
    uint64_t high, low;      /* of the coefficient */
};

/* Bytes that may be looked at: the last chunk of a run may be behind too many digits. */
enum { LONGEST_EXTENDED = 1 + 2 * (DECIMAL128_DIGITS + 8) + 1 + 8 };

/* a * b + c in 128 bits; it must fit. */
static inline void multiply_add(uint64_t a, uint64_t b, uint64_t c, uint64_t *high, uint64_t *low)
{
#if defined(__SIZEOF_INT128__) && !defined(SHAKE_PORTABLE)
    unsigned __int128 value = (unsigned __int128)a * b + c;
    *high = (uint64_t)(value >> 64);
    *low = (uint64_t)value;
#else
    uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
    uint64_t lowest = a_low * b_low;
    uint64_t middle = a_high * b_low + (lowest >> 32);
    uint64_t other = a_low * b_high + (uint32_t)middle;
    *high = a_high * b_high + (middle >> 32) + (other >> 32);
    *low = other << 32 | (uint32_t)lowest;
    *low += c;
    *high += *low < c;
#endif
}

/* Take the digits at p behind those that are taken; returns how many. */
static unsigned take_run(const uint8_t *p, struct extended *e)
{
    unsigned taken = 0, count;
    do {
        uint64_t chunk = get64(p + taken) ^ ZEROS, more;
        count = count_digits(chunk);
        if (!count)
            break;
        multiply_add(e->low, ten_to[count], value_of_digits(chunk, count), &more, &e->low);
        e->high = e->high * ten_to[count] + more;
        taken += count;
        e->digits += count;
    } while (count == 8 && e->digits <= DECIMAL128_DIGITS);
    return taken;
}

/* NULL when the number is another one; nothing is refused here. */
static const uint8_t *read_extended(const struct work *w, const uint8_t *p, struct extended *e)
{
    if (w->end - p < LONGEST_EXTENDED)
        return NULL;
    *e = (struct extended){.negative = *p == '-'};
    p += e->negative;
    unsigned whole = take_run(p, e);
    p += whole;
    if (*p == '.' && e->digits <= DECIMAL128_DIGITS) {
        e->places = take_run(p + 1, e);
        p += 1 + e->places;
        if (p[-1] == '0' || p[-1] == '.')
            return NULL;
    }
    return *p == '"' && whole > 0 && e->digits <= DECIMAL128_DIGITS ? p + 1 : NULL;
}

/* -- all numbers ------------------------------------------------------------------------------- */

/* Digits that are kept: more than any number may have, and room to read 8 at once. */
enum { KEPT_DIGITS = MAX_DIGITS + 2, DIGITS_ROOM = KEPT_DIGITS + 8 };

/* The value sign * digits * 10**exponent; digits neither start nor end with 0, and are none
 * for zero. */
struct decimal {
    bool negative;
    int count;
    int exponent;
    uint8_t digits[DIGITS_ROOM];
};

/* Take the digits at p, behind so many others; leading zeros are none. */
static const uint8_t *read_digits(const uint8_t *p, struct decimal *d, int64_t *count,
                                  bool *too_many)
{
    int64_t n = *count;
    if (n == 0)
        while (*p == '0')
            p++;
    for (; is_digit(*p); p++, n++) {
        if (n < KEPT_DIGITS)
            d->digits[n] = *p - '0';
        else
            *too_many |= *p != '0';
    }
    *count = n;
    return p;
}

/* At most 9 digits behind the leading zeros: what the reference takes, and no overflow. */
static const uint8_t *read_exponent(struct work *w, const uint8_t *p, int64_t *exponent)
{
    bool negative = *p == '-';
    if (*p == '+' || *p == '-')
        p++;
    if (!is_digit(*p))
        return refuse(w, p, "an exponent without digits");
    while (*p == '0')
        p++;
    int64_t value = 0;
    for (unsigned count = 0; is_digit(*p); p++, count++) {
        if (count == 9)
            return refuse(w, p, "an exponent out of range");
        value = value * 10 + (*p - '0');
    }
    *exponent = negative ? -value : value;
    return p;
}

static const uint8_t *read_decimal(struct work *w, const uint8_t *p, struct decimal *d)
{
    int64_t count = 0, fraction = 0, exponent = 0;
    bool too_many = false;
    *d = (struct decimal){.negative = *p == '-'};
    if (*p == '+' || *p == '-')
        p++;
    const uint8_t *start = p;
    p = read_digits(p, d, &count, &too_many);
    bool any = p > start;
    if (*p == '.') {
        const uint8_t *point = p;
        p = read_digits(p + 1, d, &count, &too_many);
        fraction = p - point - 1;
    }
    if (!any && fraction == 0)
        return refuse(w, p, "not a plain number");
    if ((*p == 'e' || *p == 'E') && !(p = read_exponent(w, p + 1, &exponent)))
        return NULL;
    if (*p != '"')
        return refuse(w, p, "not a plain number");
    d->count = count < KEPT_DIGITS ? (int)count : KEPT_DIGITS;
    while (d->count && d->digits[d->count - 1] == 0)
        d->count--;
    if (d->count == 0) {
        d->negative = false;
        return p + 1;
    }
    exponent += count - d->count - fraction;
    int64_t power = exponent + d->count - 1;
    if (too_many || d->count > MAX_DIGITS || power < MIN_POWER || power > MAX_POWER)
        return refuse(w, p, "a number that DynamoDB does not allow");
    d->exponent = (int)exponent;
    return p + 1;
}

/* The value of this many digits, 19 at most, 8 readable bytes behind them. */
static uint64_t joined(const uint8_t *digits, int count)
{
    uint64_t value = 0;
    for (; count > 8; count -= 8, digits += 8)
        value = value * ten_to[8] + value_of_digits(get64(digits), 8);
    return count > 0 ? value * ten_to[count] + value_of_digits(get64(digits), (unsigned)count)
                     : value;
}

/* -- exact ------------------------------------------------------------------------------------- */

static inline uint8_t *put_integer(uint8_t *out, int64_t value, uint8_t *type)
{
    bool wide = value < INT32_MIN || value > INT32_MAX;
    *type = (uint8_t)(BSON_INT32 + wide * (BSON_INT64 - BSON_INT32)); /* no branch */
    put64(out, (uint64_t)value);
    return out + 4 + 4 * wide;
}

/* Behind the number, if it is a whole one of 64 bits; else NULL. */
static uint8_t *put_if_integer(uint8_t *out, const struct decimal *d, uint8_t *type)
{
    if (d->exponent < 0 || d->count + d->exponent > 19)
        return NULL;
    uint64_t value = joined(d->digits, d->count) * ten_to[d->exponent];
    if (value > (uint64_t)INT64_MAX + d->negative)
        return NULL;
    return put_integer(out, (int64_t)(d->negative ? 0 - value : value), type);
}

/* 1 bit of sign, 14 of biased exponent, 113 of binary coefficient. */
static inline uint8_t *put_decimal128(uint8_t *out, uint64_t high, uint64_t low, int exponent,
                                      bool negative, uint8_t *type)
{
    high |= (uint64_t)(exponent + DECIMAL128_BIAS) << 49 | (uint64_t)negative << 63;
    *type = BSON_DECIMAL128;
    put64(out, low);
    put64(out + 8, high);
    return out + 16;
}

static uint8_t *put_34_digits(uint8_t *out, struct decimal *d, uint8_t *type)
{
    if (d->exponent > 0 && d->count + d->exponent <= DECIMAL128_DIGITS)
        for (; d->exponent > 0; d->exponent--)
            d->digits[d->count++] = 0;
    int first = d->count < 17 ? d->count : 17, rest = d->count - first;
    uint64_t high, low;
    multiply_add(joined(d->digits, first), ten_to[rest], joined(d->digits + first, rest), &high,
                 &low);
    return put_decimal128(out, high, low, d->exponent, d->negative, type);
}

/* Decimal notation, as a string. */
static uint8_t *put_plain(uint8_t *out, const struct decimal *d, uint8_t *type)
{
    uint8_t *start = out;
    out += 4;
    if (d->negative)
        *out++ = '-';
    int whole = d->count + d->exponent; /* digits before the point */
    if (whole <= 0) {
        *out++ = '0';
        *out++ = '.';
        for (int i = whole; i < 0; i++)
            *out++ = '0';
    }
    for (int i = 0; i < d->count; i++) {
        if (i == whole && i > 0)
            *out++ = '.';
        *out++ = (uint8_t)('0' + d->digits[i]);
    }
    for (int i = 0; i < d->exponent; i++)
        *out++ = '0';
    *out++ = 0;
    *type = BSON_STRING;
    put32(start, (uint32_t)(out - start) - 4);
    return out;
}

static struct at put_any_exact(struct work *w, struct at at, uint8_t *type)
{
    struct decimal d;
    uint8_t *out = NULL;
    const uint8_t *behind = read_decimal(w, at.in, &d);
    if (!behind || (out = put_if_integer(at.out, &d, type)))
        return (struct at){behind, out};
    if (d.count <= DECIMAL128_DIGITS)
        return (struct at){behind, put_34_digits(at.out, &d, type)};
    if (w->options->overflow_is_error)
        return refuse_at(w, at.in, "a number of more than 34 digits");
    if (!has_room(w, at.out, 4 + MAX_PLAIN + 1))
        return (struct at){0};
    return (struct at){behind, put_plain(at.out, &d, type)};
}

static __attribute__((noinline)) struct at put_long(struct work *w, struct at at, uint8_t *type)
{
    struct extended e;
    const uint8_t *behind = read_extended(w, at.in, &e);
    if (!behind)
        return put_any_exact(w, at, type);
    if (e.places || e.high || e.low > (uint64_t)INT64_MAX + e.negative)
        at.out = put_decimal128(at.out, e.high, e.low, -(int)e.places, e.negative, type);
    else
        at.out = put_integer(at.out, (int64_t)(e.negative ? 0 - e.low : e.low), type);
    return (struct at){behind, at.out};
}

struct at put_exact(struct work *w, struct at at, uint8_t *type)
{
    struct brief b;
    const uint8_t *behind = read_brief(w, at.in, &b);
    if (!behind)
        return put_long(w, at, type);
    if (b.places)
        at.out = put_decimal128(at.out, 0, b.coefficient, -(int)b.places, b.negative, type);
    else
        at.out = put_integer(at.out, (int64_t)(b.negative ? 0 - b.coefficient : b.coefficient),
                             type);
    return (struct at){behind, at.out};
}

/* -- nearest ----------------------------------------------------------------------------------- */

/* Where both are exact as doubles, one operation rounds once. */
static bool is_exact(uint64_t coefficient, int exponent)
{
    return FLT_EVAL_METHOD == 0 && coefficient < 1000000000000000u && exponent >= -19 &&
           exponent <= 19;
}

static double scaled(uint64_t coefficient, int exponent)
{
    return exponent < 0 ? (double)coefficient / (double)ten_to[-exponent]
                        : (double)coefficient * (double)ten_to[exponent];
}

static double nearest(const struct decimal *d)
{
    if (d->count <= DBL_DIG && is_exact(joined(d->digits, d->count), d->exponent))
        return scaled(joined(d->digits, d->count), d->exponent);
    /* Digits and exponent only: the decimal point would depend on the locale. */
    char text[MAX_DIGITS + 8];
    int length = 0, exponent = d->exponent < 0 ? -d->exponent : d->exponent;
    for (; length < d->count; length++)
        text[length] = (char)('0' + d->digits[length]);
    text[length++] = 'e';
    text[length++] = d->exponent < 0 ? '-' : '+';
    text[length++] = (char)('0' + exponent / 100);
    text[length++] = (char)('0' + exponent / 10 % 10);
    text[length++] = (char)('0' + exponent % 10);
    text[length] = 0;
    return strtod(text, NULL);
}

struct at put_nearest(struct work *w, struct at at, uint8_t *type)
{
    struct brief b;
    double value;
    bool negative;
    const uint8_t *behind = read_brief(w, at.in, &b);
    if (behind && is_exact(b.coefficient, -(int)b.places)) {
        value = scaled(b.coefficient, -(int)b.places);
        negative = b.negative && b.coefficient;
        w->kept = true;
    } else {
        struct decimal d;
        if (!(behind = read_decimal(w, at.in, &d)))
            return (struct at){0};
        value = nearest(&d);
        negative = d.negative;
        w->kept = d.count <= DBL_DIG;
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    *type = BSON_DOUBLE;
    put64(at.out, bits | (uint64_t)negative << 63);
    return (struct at){behind, at.out + 8};
}
