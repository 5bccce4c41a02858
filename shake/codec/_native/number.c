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

/* A number of up to 15 digits, or of 18 with a point in it and no 0 at its end: nearly all. */
struct brief {
    bool negative;
    unsigned places; /* digits behind the point */
    uint64_t coefficient;
};

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
}

/* NULL when the number is another one; nothing is refused here. */
static inline const uint8_t *read_brief(const struct work *w, const uint8_t *p, struct brief *b)
{
    if (w->end - p < LONGEST_BRIEF)
        return NULL;
    b->negative = *p == '-';
    p += b->negative;
    unsigned whole = read_run(p, &b->coefficient);
    p += whole;
    b->places = 0;
    if (*p == '.') {
        uint64_t fraction;
        b->places = read_run(p + 1, &fraction);
        p += 1 + b->places;
        if (p[-1] == '0' || p[-1] == '.' || whole + b->places > 18)
            return NULL;
        b->coefficient = b->coefficient * ten_to[b->places] + fraction;
    }
    return *p == '"' && whole > 0 && whole < RUN ? p + 1 : NULL;
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

static void put_integer(struct work *w, int64_t value, size_t type_at)
{
    bool narrow = value >= INT32_MIN && value <= INT32_MAX;
    w->base[type_at] = narrow ? BSON_INT32 : BSON_INT64;
    if (narrow)
        append32(w, (uint32_t)value);
    else
        append64(w, (uint64_t)value);
}

/* Whether it is a whole number of 64 bits, and has been written. */
static bool put_if_integer(struct work *w, const struct decimal *d, size_t type_at)
{
    if (d->exponent < 0 || d->count + d->exponent > 19)
        return false;
    uint64_t value = joined(d->digits, d->count) * ten_to[d->exponent];
    if (value > (uint64_t)INT64_MAX + d->negative)
        return false;
    if (d->negative)
        put_integer(w, value > INT64_MAX ? INT64_MIN : -(int64_t)value, type_at);
    else
        put_integer(w, (int64_t)value, type_at);
    return true;
}

/* a * b + c in 128 bits; it must fit. */
static void multiply_add(uint64_t a, uint64_t b, uint64_t c, uint64_t *high, uint64_t *low)
{
    uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
    uint64_t lowest = a_low * b_low;
    uint64_t middle = a_high * b_low + (lowest >> 32);
    uint64_t other = a_low * b_high + (uint32_t)middle;
    *high = a_high * b_high + (middle >> 32) + (other >> 32);
    *low = other << 32 | (uint32_t)lowest;
    *low += c;
    *high += *low < c;
}

/* 1 bit of sign, 14 of biased exponent, 113 of binary coefficient. */
static void append_decimal128(struct work *w, uint64_t high, uint64_t low, int exponent,
                              bool negative, size_t type_at)
{
    high |= (uint64_t)(exponent + DECIMAL128_BIAS) << 49 | (uint64_t)negative << 63;
    w->base[type_at] = BSON_DECIMAL128;
    append64(w, low);
    append64(w, high);
}

static void put_decimal128(struct work *w, struct decimal *d, size_t type_at)
{
    if (d->exponent > 0 && d->count + d->exponent <= DECIMAL128_DIGITS)
        for (; d->exponent > 0; d->exponent--)
            d->digits[d->count++] = 0;
    int first = d->count < 17 ? d->count : 17, rest = d->count - first;
    uint64_t high, low;
    multiply_add(joined(d->digits, first), ten_to[rest], joined(d->digits + first, rest), &high,
                 &low);
    append_decimal128(w, high, low, d->exponent, d->negative, type_at);
}

/* Decimal notation, as a string. */
static void put_plain(struct work *w, const struct decimal *d, size_t type_at)
{
    uint8_t *start = w->out;
    w->out += 4;
    if (d->negative)
        *w->out++ = '-';
    int whole = d->count + d->exponent; /* digits before the point */
    if (whole <= 0) {
        *w->out++ = '0';
        *w->out++ = '.';
        for (int i = whole; i < 0; i++)
            *w->out++ = '0';
    }
    for (int i = 0; i < d->count; i++) {
        if (i == whole && i > 0)
            *w->out++ = '.';
        *w->out++ = (uint8_t)('0' + d->digits[i]);
    }
    for (int i = 0; i < d->exponent; i++)
        *w->out++ = '0';
    *w->out++ = 0;
    w->base[type_at] = BSON_STRING;
    put32(start, (uint32_t)(w->out - start) - 4);
}

const uint8_t *put_exact(struct work *w, const uint8_t *p, size_t type_at)
{
    if (!reserve(w, 4 + MAX_PLAIN + 1))
        return NULL;
    struct brief b;
    const uint8_t *behind = read_brief(w, p, &b);
    if (behind) {
        if (b.places)
            append_decimal128(w, 0, b.coefficient, -(int)b.places, b.negative, type_at);
        else
            put_integer(w, b.negative ? -(int64_t)b.coefficient : (int64_t)b.coefficient, type_at);
        return behind;
    }
    struct decimal d;
    behind = read_decimal(w, p, &d);
    if (!behind || put_if_integer(w, &d, type_at))
        return behind;
    if (d.count <= DECIMAL128_DIGITS)
        put_decimal128(w, &d, type_at);
    else if (w->options->overflow_is_error)
        return refuse(w, p, "a number of more than 34 digits");
    else
        put_plain(w, &d, type_at);
    return behind;
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

const uint8_t *put_nearest(struct work *w, const uint8_t *p, size_t type_at)
{
    if (!reserve(w, 8))
        return NULL;
    struct brief b;
    double value;
    bool negative;
    const uint8_t *behind = read_brief(w, p, &b);
    if (behind && is_exact(b.coefficient, -(int)b.places)) {
        value = scaled(b.coefficient, -(int)b.places);
        negative = b.negative && b.coefficient;
        w->kept = true;
    } else {
        struct decimal d;
        if (!(behind = read_decimal(w, p, &d)))
            return NULL;
        value = nearest(&d);
        negative = d.negative;
        w->kept = d.count <= DBL_DIG;
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    w->base[type_at] = BSON_DOUBLE;
    append64(w, bits | (uint64_t)negative << 63);
    return behind;
}
