/* JSON that is only looked at: checked, and stepped over. */
#ifndef SHAKE_JSON_H
#define SHAKE_JSON_H

#include "work.h"

/* From an object's member to its value; the name as it is written. */
const uint8_t *read_member(struct work *w, const uint8_t *p, struct bytes *name);

/* Behind the value that begins here. */
const uint8_t *step_over(struct work *w, const uint8_t *p);

#endif
