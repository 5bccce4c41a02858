/* Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html */
#include "page.h"

#include "item.h"
#include "json.h"
#include "known.h"

bool open_page(struct work *w, const uint8_t *body, const char *array, struct page *page)
{
    const uint8_t *p = body;
    page->array = array;
    if (w->end - p > MAX_PAGE)
        return refuse(w, p, "a page of more than 128 MiB");
    if (!(p = expect(w, p, '{', "an object was expected")))
        return false;
    p = skip_space(p);
    while (*p != '}') {
        struct bytes name;
        if (!(p = read_member(w, p, &name)))
            return false;
        if (is_word(&name, array)) {
            page->array_at = (size_t)(p - body);
            if (*p != '[')
                return refuse(w, p, "an array was expected");
            page->next = skip_space(p + 1);
            return true;
        }
        if (!(p = step_over(w, p)) || !(p = next_member(w, p, '}')))
            return false;
    }
    return refuse(w, p, "a response without its array");
}

bool close_page(struct work *w, const uint8_t *body, struct page *page)
{
    const uint8_t *p = page->next + 1;
    page->array_end = (size_t)(p - body);
    p = next_member(w, p, '}');
    while (p && *p != '}') {
        struct bytes name;
        if (!(p = read_member(w, p, &name)))
            return false;
        if (is_word(&name, page->array))
            return refuse(w, p, "an array that comes twice");
        p = step_over(w, p);
        p = p ? next_member(w, p, '}') : NULL;
    }
    if (p && skip_space(p + 1) != w->end)
        return refuse(w, p, "something behind the response");
    return page->done = p;
}

bool put_items(struct work *w, const uint8_t *body, struct page *page, size_t most)
{
    const enum identity identity = w->options->identity;
    struct element keys[2];
    struct known_names known;
    begin_known(w, &known);
    for (const uint8_t *p = page->next; *p != ']';) {
        if (most-- == 0)
            return true;
        uint8_t *before = w->out;
        p = *p == '{' ? put_item(w, p + 1, identity, keys) : refuse(w, p, "an item was expected");
        p = p ? next_member(w, p, ']') : NULL;
        if (!p) {
            w->out = before;
            return w->reason == no_room;
        }
        page->next = p;
        page->count++;
        w->number++;
    }
    return close_page(w, body, page);
}
