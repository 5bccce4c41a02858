/* The Python binding: `Documents` and `Changes`, each made of a response that it gives out once. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

#include "page.h"
#include "records.h"

/* -- what both are made of --------------------------------------------------------------------- */

/* A response, and how it is to be read. */
struct source {
    Py_buffer body;      /* with the 0 behind it */
    const uint8_t *end;  /* of the response */
    PyObject *arguments; /* hold the names that the options point to */
    struct options options;
};

static struct work work_on(const struct source *source)
{
    return (struct work){.options = &source->options, .end = source->end};
}

/* (reason, position), or NULL with MemoryError set. */
static PyObject *refusal(const struct work *w, const struct source *source)
{
    if (w->reason == no_memory)
        return PyErr_NoMemory();
    return Py_BuildValue("sn", w->reason, (Py_ssize_t)(w->where - (uint8_t *)source->body.buf));
}

static void raise_refusal(const struct work *w, const struct source *source)
{
    PyObject *arguments = refusal(w, source);
    if (arguments)
        PyErr_SetObject(PyExc_ValueError, arguments);
    Py_XDECREF(arguments);
}

static bool take_plan(struct options *options, PyObject *plan)
{
    const char *renamed, *names[2];
    Py_ssize_t renamed_length, lengths[2];
    int convert, overflow_is_error, identity, exact_keys;
    if (!PyArg_ParseTuple(plan, "ipipz#y#Iz#I;a plan", &convert, &overflow_is_error, &identity,
                          &exact_keys, &renamed, &renamed_length, &names[0], &lengths[0],
                          &options->keys[0].type, &names[1], &lengths[1], &options->keys[1].type))
        return false;
    options->convert = (enum convert)convert;
    options->overflow_is_error = overflow_is_error;
    options->identity = (enum identity)identity;
    options->exact_keys = exact_keys;
    options->renamed = bytes_of(renamed, renamed_length);
    for (; options->key_count < 2 && names[options->key_count]; options->key_count++)
        options->keys[options->key_count].name =
            bytes_of(names[options->key_count], lengths[options->key_count]);
    return true;
}

/* False with an exception set. */
static bool take_source(struct source *source, PyObject *args, PyObject *body, PyObject *plan)
{
    source->arguments = Py_NewRef(args);
    if (!take_plan(&source->options, plan) || PyObject_GetBuffer(body, &source->body, PyBUF_SIMPLE))
        return false;
    const uint8_t *data = source->body.buf;
    Py_ssize_t length = source->body.len;
    /* A 0 follows the data of every bytes object; what lies in a buffer has to bring one. */
    if (!PyBytes_Check(body) && (length == 0 || data[--length])) {
        PyErr_SetString(PyExc_ValueError, "the response is not followed by a 0");
        return false;
    }
    source->end = data + length;
    return true;
}

static void release_source(struct source *source)
{
    PyBuffer_Release(&source->body);
    Py_XDECREF(source->arguments);
}

/* A document needs a few bytes more while it is written than it is long. So where the next one
 * seems not to fit, it is written elsewhere, to see. `put` writes one, and goes on behind it in
 * its state; false when it does not fit. */
static bool squeeze(struct work *w, bool (*put)(struct work *w, void *state), void *state)
{
    size_t left = (size_t)(w->limit - w->out), size = 2 * left + 1024; /* base64 is 4/3 of its data */
    uint8_t *room = left < MAX_DOCUMENT ? malloc(size) : NULL;
    if (!room)
        return false;
    struct work elsewhere = *w;
    elsewhere.base = elsewhere.out = room;
    elsewhere.limit = room + size;
    elsewhere.reason = NULL;
    bool fits = put(&elsewhere, state) && offset(&elsewhere) <= left;
    if (fits) {
        append(w, room, offset(&elsewhere));
        w->number = elsewhere.number;
    } else if (elsewhere.reason && elsewhere.reason != no_room) {
        w->reason = elsewhere.reason; /* it was not for lack of room */
        w->where = elsewhere.where;
    }
    free(room);
    return fits;
}

/* -- Documents --------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct source source;
    struct page page;
} Documents;

static PyObject *documents_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *body, *plan;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!:Documents", &body, &PyTuple_Type, &plan))
        return NULL;
    Documents *self = (Documents *)PyType_GenericAlloc(type, 0);
    if (!self || !take_source(&self->source, args, body, plan))
        goto failed;
    struct work w = work_on(&self->source);
    if (open_page(&w, self->source.body.buf, "Items", &self->page))
        return (PyObject *)self;
    raise_refusal(&w, &self->source);
failed:
    Py_XDECREF((PyObject *)self);
    return NULL;
}

static void documents_dealloc(PyObject *object)
{
    Documents *self = (Documents *)object;
    PyTypeObject *type = Py_TYPE(object);
    release_source(&self->source);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

struct items {
    const uint8_t *body;
    struct page page;
};

static bool put_one_item(struct work *w, void *state)
{
    struct items *items = state;
    size_t before = items->page.count;
    put_items(w, items->body, &items->page, 1);
    return items->page.count > before;
}

static bool fill_documents(Documents *self, struct work *w)
{
    struct items items = {self->source.body.buf, self->page};
    bool accepted = items.page.done || put_items(w, items.body, &items.page, SIZE_MAX);
    self->page = items.page;
    if (accepted && w->reason == no_room)
        while (!self->page.done && squeeze(w, put_one_item, &items))
            self->page = items.page;
    return accepted && (!w->reason || w->reason == no_room);
}

PyDoc_STRVAR(documents_fill_doc,
             "fill(out, prefix, number): see shake.codec.contract.ScanPage.\n\n"
             "Gives (bytes, documents, refusal): where the reference has to judge\n"
             "what is next, the latter is (reason, position), else None.");

static PyObject *documents_fill(Documents *self, PyObject *args)
{
    Py_buffer out;
    const char *prefix;
    Py_ssize_t prefix_length;
    long long number;
    if (!PyArg_ParseTuple(args, "w*y#L:fill", &out, &prefix, &prefix_length, &number))
        return NULL;
    bool accepted;
    size_t before = self->page.count;
    PyObject *answer = NULL;
    struct work w = work_on(&self->source);
    w.base = w.out = out.buf;
    w.limit = w.base + out.len;
    w.prefix = (const uint8_t *)prefix;
    w.number = (uint64_t)number + before;
    if (prefix_length != PREFIX_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "the prefix of an ObjectId has 7 bytes");
    } else {
        Py_BEGIN_ALLOW_THREADS
        accepted = fill_documents(self, &w);
        Py_END_ALLOW_THREADS
        size_t count = self->page.count - before;
        PyObject *why = accepted ? Py_NewRef(Py_None) : refusal(&w, &self->source);
        if (number < 0 || w.number > (uint64_t)1 << 8 * NUMBER_LENGTH) {
            PyErr_SetString(PyExc_OverflowError, "the number of an ObjectId has 5 bytes");
            Py_CLEAR(why);
        }
        if (why)
            answer = Py_BuildValue("nnN", (Py_ssize_t)offset(&w), (Py_ssize_t)count, why);
    }
    PyBuffer_Release(&out);
    return answer;
}

static PyObject *documents_done(Documents *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(self->page.done);
}

static PyObject *documents_count(Documents *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(self->page.count);
}

static PyObject *documents_items(Documents *self, void *closure)
{
    (void)closure;
    return Py_BuildValue("nn", (Py_ssize_t)self->page.array_at, (Py_ssize_t)self->page.array_end);
}

static PyMethodDef documents_methods[] = {
    {"fill", (PyCFunction)documents_fill, METH_VARARGS, documents_fill_doc},
    {0},
};

static PyGetSetDef documents_fields[] = {
    {"done", (getter)documents_done, NULL, "whether all documents are given out", NULL},
    {"count", (getter)documents_count, NULL, "how many documents are given out", NULL},
    {"items", (getter)documents_items, NULL, "where the array of items is, once done", NULL},
    {0},
};

PyDoc_STRVAR(documents_doc,
             "Documents(page, plan)\n\n"
             "Raises ValueError(reason, position) for a page that the reference has to judge.");

static PyType_Slot documents_slots[] = {
    {Py_tp_doc, (void *)documents_doc}, {Py_tp_new, documents_new},
    {Py_tp_dealloc, documents_dealloc}, {Py_tp_methods, documents_methods},
    {Py_tp_getset, documents_fields},   {0, NULL},
};

static PyType_Spec documents_spec = {
    .name = "shake.codec._transcoder.Documents",
    .basicsize = sizeof(Documents),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = documents_slots,
};

/* -- Changes ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct source source;
    struct records records;
    struct progress progress;
} Changes;

static PyObject *changes_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *body, *plan;
    const char *paths[2];
    Py_ssize_t lengths[2];
    int sharded, upsert, insert_only;
    bool accepted;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!y#z#ppp:Changes", &body, &PyTuple_Type, &plan, &paths[0],
                          &lengths[0], &paths[1], &lengths[1], &sharded, &upsert, &insert_only))
        return NULL;
    Changes *self = (Changes *)PyType_GenericAlloc(type, 0);
    if (!self || !take_source(&self->source, args, body, plan))
        goto failed;
    struct options *options = &self->source.options;
    for (unsigned i = 0; i < 2; i++)
        options->paths[i] = bytes_of(paths[i], lengths[i]);
    options->sharded = sharded;
    options->upsert = upsert;
    options->insert_only = insert_only;
    struct work w = work_on(&self->source);
    Py_BEGIN_ALLOW_THREADS
    accepted = read_records(&w, self->source.body.buf, &self->records);
    Py_END_ALLOW_THREADS
    if (accepted)
        return (PyObject *)self;
    raise_refusal(&w, &self->source);
failed:
    Py_XDECREF((PyObject *)self);
    return NULL;
}

static void changes_dealloc(PyObject *object)
{
    Changes *self = (Changes *)object;
    PyTypeObject *type = Py_TYPE(object);
    free_records(&self->records);
    release_source(&self->source);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

struct statements {
    const struct records *records;
    struct progress progress;
};

static size_t given(const struct progress *progress)
{
    return progress->counts[0] + progress->counts[1] + progress->counts[2];
}

static bool put_one_statement(struct work *w, void *state)
{
    struct statements *statements = state;
    size_t before = given(&statements->progress);
    put_statements(w, statements->records, &statements->progress, 1);
    return given(&statements->progress) > before;
}

static bool fill_statements(Changes *self, struct work *w)
{
    struct statements statements = {&self->records, self->progress};
    bool accepted = put_statements(w, &self->records, &statements.progress, SIZE_MAX);
    self->progress = statements.progress;
    if (accepted && w->reason == no_room)
        while (self->progress.kind < KINDS && squeeze(w, put_one_statement, &statements))
            self->progress = statements.progress;
    return accepted && (!w->reason || w->reason == no_room);
}

PyDoc_STRVAR(changes_fill_doc,
             "fill(out): see shake.codec.contract.ChangePage.\n\n"
             "Gives ((bytes, statements), ... of each kind, refusal), the latter as Documents.");

static PyObject *changes_fill(Changes *self, PyObject *args)
{
    Py_buffer out;
    if (!PyArg_ParseTuple(args, "w*:fill", &out))
        return NULL;
    bool accepted;
    struct progress before = self->progress;
    struct work w = work_on(&self->source);
    w.base = w.out = out.buf;
    w.limit = w.base + out.len;
    Py_BEGIN_ALLOW_THREADS
    accepted = fill_statements(self, &w);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&out);
    PyObject *why = accepted ? Py_NewRef(Py_None) : refusal(&w, &self->source);
    Py_ssize_t runs[KINDS][2];
    for (unsigned kind = 0; kind < KINDS; kind++) {
        runs[kind][0] = (Py_ssize_t)(self->progress.sizes[kind] - before.sizes[kind]);
        runs[kind][1] = (Py_ssize_t)(self->progress.counts[kind] - before.counts[kind]);
    }
    return why ? Py_BuildValue("((nn)(nn)(nn))N", runs[0][0], runs[0][1], runs[1][0], runs[1][1],
                               runs[2][0], runs[2][1], why)
               : NULL;
}

static PyObject *changes_done(Changes *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(given(&self->progress) == self->records.change_count);
}

static PyObject *changes_count(Changes *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(given(&self->progress));
}

static PyObject *changes_records(Changes *self, void *closure)
{
    (void)closure;
    const struct page *page = &self->records.page;
    return Py_BuildValue("nnn", (Py_ssize_t)page->count, (Py_ssize_t)page->array_at,
                         (Py_ssize_t)page->array_end);
}

static PyObject *changes_last(Changes *self, void *closure)
{
    (void)closure;
    const struct bytes *sequence = &self->records.sequence, *created = &self->records.created;
    return Py_BuildValue("s#s#", sequence->data ? (const char *)sequence->data : "",
                         (Py_ssize_t)sequence->length,
                         created->data ? (const char *)created->data : "0",
                         created->data ? (Py_ssize_t)created->length : 1);
}

static PyMethodDef changes_methods[] = {
    {"fill", (PyCFunction)changes_fill, METH_VARARGS, changes_fill_doc},
    {0},
};

static PyGetSetDef changes_fields[] = {
    {"done", (getter)changes_done, NULL, "whether all statements are given out", NULL},
    {"count", (getter)changes_count, NULL, "how many statements are given out", NULL},
    {"records", (getter)changes_records, NULL, "how many there are, and where", NULL},
    {"last", (getter)changes_last, NULL, "number and time of the last record, as text", NULL},
    {0},
};

PyDoc_STRVAR(changes_doc,
             "Changes(page, plan, partition_path, sort_path, sharded, upsert, insert_only)\n\n"
             "Raises ValueError as Documents does.");

static PyType_Slot changes_slots[] = {
    {Py_tp_doc, (void *)changes_doc}, {Py_tp_new, changes_new},
    {Py_tp_dealloc, changes_dealloc}, {Py_tp_methods, changes_methods},
    {Py_tp_getset, changes_fields},   {0, NULL},
};

static PyType_Spec changes_spec = {
    .name = "shake.codec._transcoder.Changes",
    .basicsize = sizeof(Changes),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = changes_slots,
};

/* -- batches ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(batches_doc, "batches(documents, most, most_bytes): see shake.codec.contract.Codec.");

static bool add_batch(PyObject *cuts, size_t start, size_t end, size_t count)
{
    PyObject *cut = Py_BuildValue("nnn", (Py_ssize_t)start, (Py_ssize_t)end, (Py_ssize_t)count);
    bool added = cut && !PyList_Append(cuts, cut);
    Py_XDECREF(cut);
    return added;
}

/* False when an exception is set. */
static bool cut_batches(PyObject *cuts, const uint8_t *documents, size_t size, size_t most,
                        size_t most_bytes)
{
    size_t start = 0, at = 0, count = 0;
    while (at < size) {
        size_t length = size - at < 4 ? 0 : get32(documents + at);
        if (length < 5 || length > size - at) {
            PyErr_Format(PyExc_ValueError, "a document of %zu bytes at %zu of %zu", length, at, size);
            return false;
        }
        if (count && (count == most || at + length - start > most_bytes)) {
            if (!add_batch(cuts, start, at, count))
                return false;
            start = at;
            count = 0;
        }
        at += length;
        count++;
    }
    return !count || add_batch(cuts, start, at, count);
}

static PyObject *batches(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer documents;
    Py_ssize_t most, most_bytes;
    if (!PyArg_ParseTuple(args, "y*nn:batches", &documents, &most, &most_bytes))
        return NULL;
    PyObject *cuts = PyList_New(0);
    if (cuts && !cut_batches(cuts, documents.buf, (size_t)documents.len, (size_t)most,
                             (size_t)most_bytes))
        Py_CLEAR(cuts);
    PyBuffer_Release(&documents);
    return cuts;
}

static PyMethodDef transcoder_methods[] = {
    {"batches", batches, METH_VARARGS, batches_doc},
    {"add_sums", add_sums, METH_VARARGS, add_sums_doc},
    {"cut_reply", cut_reply, METH_VARARGS, cut_reply_doc},
    {0},
};

static int transcoder_exec(PyObject *module)
{
    PyType_Spec *const specs[] = {&documents_spec, &changes_spec, &matcher_spec, &digests_spec};
    int status = 0;
    for (size_t i = 0; i < sizeof specs / sizeof *specs && !status; i++) {
        PyObject *type = PyType_FromSpec(specs[i]);
        status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
        Py_XDECREF(type);
    }
    return status;
}

static PyModuleDef_Slot transcoder_slots[] = {
    {Py_mod_exec, transcoder_exec},
    {0, NULL},
};

static PyModuleDef transcoder = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shake.codec._transcoder",
    .m_methods = transcoder_methods,
    .m_slots = transcoder_slots,
};

PyMODINIT_FUNC PyInit__transcoder(void)
{
    return PyModuleDef_Init(&transcoder);
}
