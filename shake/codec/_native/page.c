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

static const uint8_t *put_items(struct work *w, const uint8_t *p, struct page *page)
{
    if (*p != '[')
        return refuse(w, p, "an array of items was expected");
    p = skip_space(p + 1);
    for (; *p != ']'; page->count++) {
        if (*p != '{')
            return refuse(w, p, "an item was expected");
        p = put_item(w, p + 1);
        if (!p || !(p = next_member(w, p, ']')))
            return NULL;
    }
    return p + 1;
}

/* Returns where the member ends; p is at its name. */
static const uint8_t *put_member(struct work *w, const uint8_t *start, const uint8_t *p,
                                 struct page *page)
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
    bool is_items = length == sizeof items - 1 && !memcmp(name, items, length);
    if (!(p = expect(w, p, ':', "a colon was expected")))
        return NULL;
    if (!is_items)
        return step_over_value(w, p);
    if (page->items_end)
        return refuse(w, name, "Items come twice");
    p = skip_space(p);
    page->items_at = (size_t)(p - start);
    if ((p = put_items(w, p, page)))
        page->items_end = (size_t)(p - start);
    return p;
}

const uint8_t *put_page(struct work *w, const uint8_t *p, struct page *page)
{
    const uint8_t *start = p;
    if (w->end - p > MAX_PAGE)
        return refuse(w, p, "a page of more than 128 MiB");
    if (!(p = expect(w, p, '{', "an object was expected")))
        return NULL;
    p = skip_space(p);
    while (*p != '}') {
        p = put_member(w, start, p, page);
        if (!p || !(p = next_member(w, p, '}')))
            return NULL;
    }
    return page->items_end ? p + 1 : refuse(w, p, "a response without Items");
}
