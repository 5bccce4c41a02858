/* Digests of what stored documents say: equal ones say the same, whatever their bytes. */
#ifndef SHAKE_DIGEST_H
#define SHAKE_DIGEST_H

#include "siphash.h"
#include "stored.h"

/* The digest of a key: numbers count by their values alone, null as nothing. */
struct digest digest_key(const struct seed *seed, const struct key_form *form, struct bytes fields);

/* The digest of fields, in any order; those of arrays have theirs. The two types of integers are
 * one. False where they might not be what they seem: broken, of a type that the codec does not
 * write, or with a name that comes twice. */
bool digest_fields(const struct seed *seed, struct bytes fields, struct digest *digest);

#endif
