/* Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html */
#include "page.h"

#include "item.h"
#include "json.h"
#include "known.h"

/* From a member of the response to the value of the one of this name, or to the closing brace. A
 * value that is missing looks like that brace: who reads what lies around the array notices it. */
static const uint8_t *find_member(struct work *w, const uint8_t *p, const char *name)
{
    struct bytes found;
    while (p && *p != '}') {
        if (!(p = read_member(w, p, &found)) || is_word(&found, name))
            return p;
        p = step_over(w, p);
        p = p ? next_member(w, p, '}') : NULL;
    }
    return p;
}

bool open_page(struct work *w, const uint8_t *body, const char *array, struct page *page)
{
    const uint8_t *p = body;
    if (w->end - p > MAX_PAGE)
        return refuse(w, p, "a page of more than 128 MiB");
    p = expect(w, p, '{', "an object was expected");
    if (!p || !(p = find_member(w, skip_space(p), array)))
        return false;
    if (*p != '[')
        return refuse(w, p, "a response without its array");
    page->array = array;
    page->array_at = (size_t)(p - body);
    page->next = skip_space(p + 1);
    return true;
}

bool close_page(struct work *w, const uint8_t *body, struct page *page)
{
    const uint8_t *p = page->next + 1;
    page->array_end = (size_t)(p - body);
    if (!(p = find_member(w, next_member(w, p, '}'), page->array)))
        return false;
    if (*p != '}')
        return refuse(w, p, "an array that comes twice");
    return skip_space(p + 1) == w->end || refuse(w, p, "something behind the response");
}

bool put_items(struct work *w, const uint8_t *body, struct page *page)
{
    const enum identity identity = w->options->identity;
    struct element keys[2];
    struct known_names known;
    begin_known(w, &known);
    for (const uint8_t *p = page->next; *p != ']'; page->next = p, page->count++, w->number++) {
        uint8_t *before = w->out;
        p = *p == '{' ? put_item(w, p + 1, identity, keys) : refuse(w, p, "an item was expected");
        if (!p || !(p = next_member(w, p, ']'))) {
            w->out = before;
            return false;
        }
    }
    return close_page(w, body, page);
}
