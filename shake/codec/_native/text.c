#include "text.h"

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The 4 hexadecimal digits at p, or -1. */
static int32_t hex_unit(const uint8_t *p)
{
    int32_t unit = 0;
    for (unsigned i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static void append_utf8(struct work *w, uint32_t point)
{
    if (point < 0x80) {
        *w->out++ = (uint8_t)point;
    } else if (point < 0x800) {
        *w->out++ = (uint8_t)(0xc0 | point >> 6);
        *w->out++ = (uint8_t)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *w->out++ = (uint8_t)(0xe0 | point >> 12);
        *w->out++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *w->out++ = (uint8_t)(0x80 | (point & 0x3f));
    } else {
        *w->out++ = (uint8_t)(0xf0 | point >> 18);
        *w->out++ = (uint8_t)(0x80 | (point >> 12 & 0x3f));
        *w->out++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *w->out++ = (uint8_t)(0x80 | (point & 0x3f));
    }
}

static const uint8_t *copy_unicode_escape(struct work *w, const uint8_t *p)
{
    int32_t unit = hex_unit(p + 2);
    if (unit < 0)
        return refuse(w, p, "an escape without four hexadecimal digits");
    uint32_t point = (uint32_t)unit;
    const uint8_t *behind = p + 6;
    if (point >= 0xd800 && point < 0xe000) {
        int32_t low = behind[0] == '\\' && behind[1] == 'u' ? hex_unit(behind + 2) : -1;
        if (point >= 0xdc00 || low < 0xdc00 || low >= 0xe000)
            return refuse(w, p, "a lone surrogate");
        point = 0x10000 + ((point - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        behind += 6;
    }
    w->zero |= point == 0;
    append_utf8(w, point);
    return behind;
}

static const uint8_t *copy_escape(struct work *w, const uint8_t *p)
{
    uint8_t character;
    switch (p[1]) {
    case '"': case '\\': case '/': character = p[1]; break;
    case 'b': character = '\b'; break;
    case 'f': character = '\f'; break;
    case 'n': character = '\n'; break;
    case 'r': character = '\r'; break;
    case 't': character = '\t'; break;
    case 'u': return copy_unicode_escape(w, p);
    default: return refuse(w, p, "an unknown escape");
    }
    *w->out++ = character;
    return p + 2;
}

/* Well-formed UTF-8: the table 3-7 of https://www.unicode.org/versions/Unicode15.0.0/ch03.pdf */
static const uint8_t *copy_multibyte(struct work *w, const uint8_t *p)
{
    uint8_t first = p[0], low = 0x80, high = 0xbf;
    unsigned length;
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        if (first == 0xe0)
            low = 0xa0;
        if (first == 0xed)
            high = 0x9f; /* beyond are surrogates, which the reference takes apart */
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        if (first == 0xf0)
            low = 0x90;
        if (first == 0xf4)
            high = 0x8f;
    } else {
        return refuse(w, p, "a byte that UTF-8 does not have");
    }
    if (p[1] < low || p[1] > high)
        return refuse(w, p, "a surrogate in UTF-8, or broken UTF-8");
    for (unsigned i = 2; i < length; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return refuse(w, p, "broken UTF-8");
    append(w, p, length);
    return p + length;
}

const uint8_t *copy_special(struct work *w, const uint8_t *p)
{
    if (*p == '\\')
        return copy_escape(w, p);
    if (*p >= 0x80)
        return copy_multibyte(w, p);
    return refuse(w, p, p == w->end ? "the page ends in a string" : "a control character");
}
