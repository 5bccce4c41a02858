/* Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html */
#include "page.h"

#include "item.h"

/* From behind the opening quote to behind the closing one. */
static const uint8_t *step_over_string(struct work *w, const uint8_t *p)
{
    for (; p < w->end; p++) {
        if (*p == '"')
            return p + 1;
        if (*p == '\\')
            p++;
    }
    return refuse(w, w->end, "the page ends in a string");
}

/* To the comma or bracket that ends the member. */
static const uint8_t *step_over_value(struct work *w, const uint8_t *p)
{
    size_t depth = 0;
    while (p < w->end) {
        if (depth == 0 && (*p == ',' || *p == '}' || *p == ']'))
            return p;
        if (*p == '"') {
            if (!(p = step_over_string(w, p + 1)))
                return NULL;
            continue;
        }
        if (*p == '{' || *p == '[')
            depth++;
        else if (*p == '}' || *p == ']')
            depth--;
        p++;
    }
    return refuse(w, p, "the page ends in a value");
}

/* From a member's name to behind the colon; `*is_items` says whether it is the one with the items. */
static const uint8_t *read_name(struct work *w, const uint8_t *p, bool *is_items)
{
    static const uint8_t items[] = "Items\"";
    if (*p != '"')
        return refuse(w, p, "a name was expected");
    const uint8_t *name = p + 1;
    if (!(p = step_over_string(w, name)))
        return NULL;
    size_t length = (size_t)(p - name);
    if (memchr(name, '\\', length))
        return refuse(w, name, "an escape in a name of the response");
    *is_items = length == sizeof items - 1 && !memcmp(name, items, length);
    return expect(w, p, ':', "a colon was expected");
}

bool open_page(struct work *w, const uint8_t *body, struct page *page)
{
    const uint8_t *p = body;
    if (w->end - p > MAX_PAGE)
        return refuse(w, p, "a page of more than 128 MiB");
    if (!(p = expect(w, p, '{', "an object was expected")))
        return false;
    p = skip_space(p);
    while (*p != '}') {
        bool is_items;
        if (!(p = read_name(w, p, &is_items)))
            return false;
        if (is_items) {
            p = skip_space(p);
            page->items_at = (size_t)(p - body);
            if (*p != '[')
                return refuse(w, p, "an array of items was expected");
            page->next = skip_space(p + 1);
            return true;
        }
        if (!(p = step_over_value(w, p)) || !(p = next_member(w, p, '}')))
            return false;
    }
    return refuse(w, p, "a response without Items");
}

/* From behind the array of items to the end of the page. */
static bool close_page(struct work *w, const uint8_t *p)
{
    p = next_member(w, p, '}');
    while (p && *p != '}') {
        bool is_items;
        if (!(p = read_name(w, p, &is_items)))
            return false;
        if (is_items)
            return refuse(w, p, "Items come twice");
        p = step_over_value(w, p);
        p = p ? next_member(w, p, '}') : NULL;
    }
    return p;
}

bool put_items(struct work *w, const uint8_t *body, struct page *page, size_t most)
{
    const uint8_t *p = page->next;
    while (*p != ']') {
        if (most-- == 0)
            return true;
        uint8_t *before = w->out;
        p = *p == '{' ? put_item(w, p + 1) : refuse(w, p, "an item was expected");
        p = p ? next_member(w, p, ']') : NULL;
        if (!p) {
            w->out = before;
            return w->reason == no_room;
        }
        page->next = p;
        page->count++;
        w->number++;
    }
    page->items_end = (size_t)(p + 1 - body);
    return page->done = close_page(w, p + 1);
}
