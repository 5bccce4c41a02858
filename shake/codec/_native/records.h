/* A GetRecords response to statements. */
#ifndef SHAKE_RECORDS_H
#define SHAKE_RECORDS_H

#include "page.h"

enum event { INSERT, MODIFY, REMOVE, NO_EVENT };

/* The kinds of statements, in the order in which they are given out. */
enum kind { KIND_UPDATE, KIND_INSERT, KIND_DELETE, KINDS };

/* What the records of one key come to. */
struct change {
    size_t query_at;      /* in `queries` */
    const uint8_t *image; /* behind the brace that opens the last record's new image, or NULL */
    uint8_t first, last;  /* events of the first and of the last record */
    bool modifies;        /* no record is anything else than a MODIFY */
};

/* What was written of each kind. */
struct written {
    size_t sizes[KINDS], counts[KINDS];
};

struct records {
    struct page page;
    struct bytes sequence, created; /* members of the last record, as digits */
    struct change *changes;         /* in the order of the keys' first records */
    size_t change_count, change_most;
    uint8_t *queries;
    uint32_t *table; /* of changes by hash of the query, counted from 1 */
    size_t table_size;
};

/* Read the whole response; false when it refused. In any case: `free_records`. */
bool read_records(struct work *w, const uint8_t *body, struct records *records);
void free_records(struct records *records);

/* Write all statements. False when it refused the next one, or found no room for it. */
bool put_statements(struct work *w, const struct records *records, struct written *written);

#endif
