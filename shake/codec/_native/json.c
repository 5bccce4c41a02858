/* Source: https://www.rfc-editor.org/rfc/rfc8259 */
#include "json.h"

#include "text.h"

/* As step_over_text, of any length, with anything in it. */
static const uint8_t *step_over_any_text(struct work *w, const uint8_t *p)
{
    for (;;) {
        uint8_t ignored[CHUNK];
        if (w->end - p >= CHUNK) {
            unsigned plain = copy_chunk(ignored, p);
            p += plain;
            if (plain == CHUNK)
                continue;
        } else {
            while (is_plain(*p)) /* fewer than CHUNK: the 0 at the end is not */
                p++;
        }
        if (*p == '"')
            return p + 1;
        if (!(p = copy_special(w, (struct at){p, ignored}).in))
            return NULL;
    }
}

/* From behind the opening quote to behind the closing one. */
static inline const uint8_t *step_over_text(struct work *w, const uint8_t *p)
{
    uint8_t ignored[CHUNK];
    unsigned plain = w->end - p >= CHUNK ? copy_chunk(ignored, p) : CHUNK;
    return plain < CHUNK && p[plain] == '"' ? p + plain + 1 : step_over_any_text(w, p);
}

static const uint8_t *step_over_digits(struct work *w, const uint8_t *p, unsigned most)
{
    const uint8_t *first = p;
    while (*p >= '0' && *p <= '9')
        p++;
    return p > first && p - first <= (ptrdiff_t)most ? p : refuse(w, first, "no number, or a long one");
}

/* Numbers that every reader takes for the same, and that no double is too small for. */
static const uint8_t *step_over_number(struct work *w, const uint8_t *p)
{
    p += *p == '-';
    if (p[0] == '0' && p[1] >= '0' && p[1] <= '9')
        return refuse(w, p, "a number that begins with 0");
    if (!(p = step_over_digits(w, p, 18)))
        return NULL;
    if (*p == '.' && !(p = step_over_digits(w, p + 1, 18)))
        return NULL;
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        p = step_over_digits(w, p, 2);
    }
    return p;
}

static const uint8_t *step_over_word(struct work *w, const uint8_t *p, const char *word)
{
    for (const char *letter = word; *letter; letter++, p++)
        if (*p != (uint8_t)*letter)
            return refuse(w, p, "no JSON");
    return p;
}

/* From an object's member to its value. */
static inline const uint8_t *step_over_name(struct work *w, const uint8_t *p)
{
    if (*p != '"')
        return refuse(w, p, "a name was expected");
    if (is_plain(p[1]) && p[2] == '"' && p[3] == ':') /* as in {"S": */
        return skip_space(p + 4);
    p = step_over_text(w, p + 1);
    p = p ? expect(w, p, ':', "a colon was expected") : NULL;
    return p ? skip_space(p) : NULL;
}

static const uint8_t *step_over_at(struct work *w, const uint8_t *p, unsigned depth);

/* From behind the opening bracket. */
static const uint8_t *step_over_members(struct work *w, const uint8_t *p, uint8_t closing,
                                        unsigned depth)
{
    if (depth > 2 * MAX_DEPTH)
        return refuse(w, p, "deep nesting");
    p = skip_space(p);
    while (*p != closing) {
        if (closing == '}' && !(p = step_over_name(w, p)))
            return NULL;
        p = step_over_at(w, p, depth);
        if (!p || !(p = next_member(w, p, closing)))
            return NULL;
    }
    return p + 1;
}

static const uint8_t *step_over_at(struct work *w, const uint8_t *p, unsigned depth)
{
    switch (*p) {
    case '"': return step_over_text(w, p + 1);
    case '{': return step_over_members(w, p + 1, '}', depth + 1);
    case '[': return step_over_members(w, p + 1, ']', depth + 1);
    case 't': return step_over_word(w, p, "true");
    case 'f': return step_over_word(w, p, "false");
    case 'n': return step_over_word(w, p, "null");
    default: return step_over_number(w, p);
    }
}

const uint8_t *step_over(struct work *w, const uint8_t *p)
{
    return step_over_at(w, p, 0);
}

const uint8_t *read_member(struct work *w, const uint8_t *p, struct bytes *name)
{
    if (*p != '"')
        return refuse(w, p, "a name was expected");
    name->data = p + 1;
    if (!(p = step_over_text(w, p + 1)))
        return NULL;
    name->length = (size_t)(p - 1 - name->data);
    if (memchr(name->data, '\\', name->length))
        return refuse(w, name->data, "an escape in a name of the response");
    p = expect(w, p, ':', "a colon was expected");
    return p ? skip_space(p) : NULL;
}
