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

/* The value sign * digits * 10**exponent; digits neither start nor end with 0, and are none
 * for zero. */
struct decimal {
    bool negative;
    int count;
    int exponent;
    uint8_t digits[MAX_DIGITS];
};

static inline bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* What reading the digits of a number has found so far. */
struct mantissa {
    int64_t zeros;    /* behind the last digit that counts */
    int64_t fraction; /* digits behind the point */
    bool any, too_many;
};

static const uint8_t *read_digits(const uint8_t *p, struct decimal *d, struct mantissa *m)
{
    for (; is_digit(*p); p++) {
        m->any = true;
        if (*p == '0') {
            m->zeros += d->count > 0;
            continue;
        }
        if (d->count + m->zeros >= MAX_DIGITS) {
            m->too_many = true;
            m->zeros = 0;
            continue;
        }
        for (; m->zeros > 0; m->zeros--)
            d->digits[d->count++] = 0;
        d->digits[d->count++] = *p - '0';
    }
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
    struct mantissa m = {0};
    int64_t exponent = 0;
    d->count = d->exponent = 0;
    d->negative = *p == '-';
    if (*p == '+' || *p == '-')
        p++;
    p = read_digits(p, d, &m);
    if (*p == '.') {
        const uint8_t *point = p;
        p = read_digits(p + 1, d, &m);
        m.fraction = p - point - 1;
    }
    if (!m.any)
        return refuse(w, p, "not a plain number");
    if ((*p == 'e' || *p == 'E') && !(p = read_exponent(w, p + 1, &exponent)))
        return NULL;
    if (*p != '"')
        return refuse(w, p, "not a plain number");
    w->digits = (unsigned)d->count;
    if (d->count == 0) {
        d->negative = false;
        return p + 1;
    }
    exponent += m.zeros - m.fraction;
    int64_t power = exponent + d->count - 1;
    if (m.too_many || power < MIN_POWER || power > MAX_POWER)
        return refuse(w, p, "a number that DynamoDB does not allow");
    d->exponent = (int)exponent;
    return p + 1;
}

static uint64_t joined(const uint8_t *digits, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value = value * 10 + digits[i];
    return value;
}

/* -- exact ------------------------------------------------------------------------------------- */

static void put_integer(struct work *w, int64_t value, size_t type_at)
{
    bool narrow = value >= INT32_MIN && value <= INT32_MAX;
    w->base[type_at] = narrow ? BSON_INT32 : BSON_INT64;
    if (narrow)
        append_little(w, (uint32_t)value, 4);
    else
        append_little(w, (uint64_t)value, 8);
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
static void put_decimal128(struct work *w, struct decimal *d, size_t type_at)
{
    if (d->exponent > 0 && d->count + d->exponent <= DECIMAL128_DIGITS)
        for (; d->exponent > 0; d->exponent--)
            d->digits[d->count++] = 0;
    int first = d->count < 17 ? d->count : 17, rest = d->count - first;
    uint64_t high, low;
    multiply_add(joined(d->digits, first), ten_to[rest], joined(d->digits + first, rest), &high,
                 &low);
    high |= (uint64_t)(d->exponent + DECIMAL128_BIAS) << 49 | (uint64_t)d->negative << 63;
    w->base[type_at] = BSON_DECIMAL128;
    append_little(w, low, 8);
    append_little(w, high, 8);
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
    put_little(start, (uint64_t)(w->out - start) - 4, 4);
}

/* The commonest number: up to 18 digits and nothing else. NULL when it is not one. */
static const uint8_t *put_if_short_integer(struct work *w, const uint8_t *p, size_t type_at)
{
    bool negative = *p == '-';
    const uint8_t *start = p += negative;
    int64_t value = 0;
    for (; is_digit(*p) && p - start < 18; p++)
        value = value * 10 + (*p - '0');
    if (*p != '"' || p == start)
        return NULL;
    put_integer(w, negative ? -value : value, type_at);
    return p + 1;
}

const uint8_t *put_exact(struct work *w, const uint8_t *p, size_t type_at)
{
    if (!reserve(w, 4 + MAX_PLAIN + 1))
        return NULL;
    const uint8_t *behind = put_if_short_integer(w, p, type_at);
    if (behind)
        return behind;
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

static double nearest(const struct decimal *d)
{
#if FLT_EVAL_METHOD == 0
    /* Both are exact as doubles, so that one operation rounds once. */
    if (d->count <= 15 && d->exponent >= -19 && d->exponent <= 19) {
        double value = (double)joined(d->digits, d->count);
        double power = (double)ten_to[d->exponent < 0 ? -d->exponent : d->exponent];
        return d->exponent < 0 ? value / power : value * power;
    }
#endif
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
    struct decimal d;
    const uint8_t *behind = read_decimal(w, p, &d);
    if (!behind || !reserve(w, 8))
        return NULL;
    double value = d.count ? nearest(&d) : 0.0;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    w->base[type_at] = BSON_DOUBLE;
    append_little(w, bits | (uint64_t)d.negative << 63, 8);
    return behind;
}
