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

static struct at copy_point(const uint8_t *behind, uint32_t point, uint8_t *out)
{
    unsigned more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3; /* bytes */
    unsigned head = more ? 0xff00u >> (more + 1) : 0; /* as many 1 bits as it has bytes */
    *out++ = (uint8_t)(head | point >> 6 * more);
    while (more-- > 0)
        *out++ = (uint8_t)(0x80 | (point >> 6 * more & 0x3f));
    return (struct at){behind, out};
}

static struct at copy_unicode_escape(struct work *w, struct at at)
{
    const uint8_t *p = at.in, *behind = p + 6;
    int32_t unit = hex_unit(p + 2);
    if (unit < 0)
        return refuse_at(w, p, "an escape without four hexadecimal digits");
    uint32_t point = (uint32_t)unit;
    if (point >= 0xd800 && point < 0xe000) {
        int32_t low = behind[0] == '\\' && behind[1] == 'u' ? hex_unit(behind + 2) : -1;
        if (point >= 0xdc00 || low < 0xdc00 || low >= 0xe000)
            return refuse_at(w, p, "a lone surrogate");
        point = 0x10000 + ((point - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        behind += 6;
    }
    w->zero |= point == 0;
    return copy_point(behind, point, at.out);
}

static struct at copy_escape(struct work *w, struct at at)
{
    uint8_t character;
    switch (at.in[1]) {
    case '"': case '\\': case '/': character = at.in[1]; break;
    case 'b': character = '\b'; break;
    case 'f': character = '\f'; break;
    case 'n': character = '\n'; break;
    case 'r': character = '\r'; break;
    case 't': character = '\t'; break;
    case 'u': return copy_unicode_escape(w, at);
    default: return refuse_at(w, at.in, "an unknown escape");
    }
    *at.out = character;
    return (struct at){at.in + 2, at.out + 1};
}

/* Well-formed UTF-8: the table 3-7 of https://www.unicode.org/versions/Unicode15.0.0/ch03.pdf */
static struct at copy_multibyte(struct work *w, struct at at)
{
    const uint8_t *p = at.in;
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
        return refuse_at(w, p, "a byte that UTF-8 does not have");
    }
    at.out[0] = first;
    if (p[1] < low || p[1] > high)
        return refuse_at(w, p, "a surrogate in UTF-8, or broken UTF-8");
    at.out[1] = p[1];
    for (unsigned i = 2; i < length; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return refuse_at(w, p, "broken UTF-8");
        at.out[i] = p[i];
    }
    return (struct at){p + length, at.out + length};
}

struct at copy_special(struct work *w, struct at at)
{
    if (*at.in == '\\')
        return copy_escape(w, at);
    if (*at.in >= 0x80)
        return copy_multibyte(w, at);
    return refuse_at(w, at.in, at.in == w->end ? "the page ends in a string" : "a control character");
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

struct at copy_any_text(struct work *w, struct at at)
{
    for (;;) {
        size_t left = least((size_t)(w->end - at.in), (size_t)(w->limit - at.out));
        for (unsigned plain = CHUNKS; plain == CHUNKS && left >= CHUNKS; left -= CHUNKS) {
            plain = copy_chunks(at.out, at.in);
            at.in += plain;
            at.out += plain;
        }
        if (!has_room(w, at.out, CHARACTER))
            return (struct at){0};
        if (*at.in == '"')
            break;
        if (is_plain(*at.in))
            *at.out++ = *at.in++; /* near an end */
        else if (!(at = copy_special(w, at)).in)
            return at;
    }
    *at.out = 0;
    return (struct at){at.in + 1, at.out + 1};
}
