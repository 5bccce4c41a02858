#include "base64.h"

/* What each character stands for; 255: nothing. */
static const uint8_t values[256] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 62, 255, 255, 255, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 255,
    255, 255, 255, 255, 255, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
    19, 20, 21, 22, 23, 24, 25, 255, 255, 255, 255, 255, 255, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
};

/* What a character stands for; with the highest bit if nothing. */
static inline uint32_t value_of(uint8_t character)
{
    return (uint32_t)(int8_t)values[character];
}

size_t base64_groups(uint8_t *to, size_t room, const uint8_t *from, size_t length)
{
    size_t most = length / 4 < room / 4 ? length / 4 : room / 4, done = 0;
    for (; done < most; done++, from += 4, to += 3) {
        uint32_t group = value_of(from[0]) << 18 | value_of(from[1]) << 12 |
                         value_of(from[2]) << 6 | value_of(from[3]);
        if (group >> 31)
            break;
        put32(to, __builtin_bswap32(group << 8));
    }
    return done;
}

int64_t base64_decode(uint8_t *to, const uint8_t *from, size_t length)
{
    size_t whole = length / 4 - (length >= 4 && from[length - 1] == '=');
    if (length % 4 || base64_groups(to, length, from, 4 * whole) < whole)
        return -1;
    from += 4 * whole;
    to += 3 * whole;
    if (4 * whole == length)
        return (int64_t)(3 * whole);
    bool two = from[2] == '='; /* of padding */
    uint32_t third = two ? 0 : value_of(from[2]);
    uint32_t group = value_of(from[0]) << 18 | value_of(from[1]) << 12 | third << 6;
    if (group >> 31)
        return -1;
    *to++ = (uint8_t)(group >> 16);
    if (!two)
        *to = (uint8_t)(group >> 8);
    return (int64_t)(3 * whole + (two ? 1 : 2));
}
