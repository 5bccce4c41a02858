/* Stored documents, which other software may have written: each step is kept within its bounds. */
#ifndef SHAKE_STORED_H
#define SHAKE_STORED_H

#include "work.h"

struct field {
    uint8_t type;
    struct bytes name;  /* with the 0 behind it not counted */
    struct bytes value; /* what follows that */
};

/* Where documents hold the key of their item (see shake.codec.contract.KeyForm). */
struct key_form {
    bool by_id, raw;
    unsigned count; /* 1 or 2 */
    struct bytes names[2];
    uint8_t types[2]; /* S, N or B */
};

/* The value of a key attribute; type 0: there is none. */
struct part {
    uint8_t type;
    struct bytes value;
};

struct stored_key {
    struct field id; /* where it comes first, else without a name */
    struct part parts[2];
};

extern const char not_documents[]; /* the reason where a document has not its length */

/* Take the next document; false where there is none with its length. `fields` is what is in it. */
bool take_document(struct bytes *documents, struct bytes *fields);

/* Take the next field; false where none is left, or where the rest is none. */
bool take_field(struct bytes *fields, struct field *field);

/* The fields of a value that is a document, or an array. */
static inline struct bytes inside(const struct bytes *value)
{
    return (struct bytes){value->data + 4, value->length - 5};
}

/* Find the key among the fields of a document; false where they are broken. */
bool read_key(const struct key_form *form, struct bytes fields, struct stored_key *key);

#endif
