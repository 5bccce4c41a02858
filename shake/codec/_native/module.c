/* The Python binding of what transcodes a response. */
#include "binding.h"

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

/* The same, with room for what is written. */
static struct work work_into(const struct source *source, const Py_buffer *out)
{
    struct work w = work_on(source);
    w.base = w.out = out->buf;
    w.limit = w.base + out->len;
    return w;
}

/* None where all was accepted; else (reason, position), or NULL with MemoryError set. */
static PyObject *refusal(bool accepted, const struct work *w, const struct source *source)
{
    if (accepted)
        return Py_NewRef(Py_None);
    if (w->reason == no_memory)
        return PyErr_NoMemory();
    return Py_BuildValue("sn", w->reason, (Py_ssize_t)(w->where - (uint8_t *)source->body.buf));
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

/* -- documents --------------------------------------------------------------------------------- */

static PyObject *documents_of(const struct source *source, struct work *w)
{
    bool accepted;
    const uint8_t *body = source->body.buf;
    struct page page = {0};
    Py_BEGIN_ALLOW_THREADS
    accepted = open_page(w, body, "Items", &page) && put_items(w, body, &page);
    Py_END_ALLOW_THREADS
    PyObject *why = refusal(accepted, w, source);
    return why ? Py_BuildValue("nn(nn)N", (Py_ssize_t)offset(w), (Py_ssize_t)page.count,
                               (Py_ssize_t)page.array_at, (Py_ssize_t)page.array_end, why)
               : NULL;
}

static PyObject *documents(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer out;
    PyObject *body, *plan, *answer = NULL;
    const char *prefix;
    Py_ssize_t prefix_length;
    long long number;
    struct source source = {0};
    if (!PyArg_ParseTuple(args, "OO!w*y#L:documents", &body, &PyTuple_Type, &plan, &out, &prefix,
                          &prefix_length, &number))
        return NULL;
    if (prefix_length != PREFIX_LENGTH)
        PyErr_SetString(PyExc_ValueError, "the prefix of an ObjectId has 7 bytes");
    else if (take_source(&source, args, body, plan)) {
        struct work w = work_into(&source, &out);
        w.prefix = (const uint8_t *)prefix;
        w.number = (uint64_t)number;
        answer = documents_of(&source, &w);
        if (answer && (number < 0 || w.number > (uint64_t)1 << 8 * NUMBER_LENGTH)) {
            PyErr_SetString(PyExc_OverflowError, "the number of an ObjectId has 5 bytes");
            Py_CLEAR(answer);
        }
    }
    release_source(&source);
    PyBuffer_Release(&out);
    return answer;
}

/* -- Changes ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct source source;
    struct records records;
} Changes;

static PyObject *changes_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *body, *plan, *why;
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
    if ((why = refusal(false, &w, &self->source)))
        PyErr_SetObject(PyExc_ValueError, why);
    Py_XDECREF(why);
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

static PyObject *changes_fill(Changes *self, PyObject *args)
{
    Py_buffer out;
    if (!PyArg_ParseTuple(args, "w*:fill", &out))
        return NULL;
    bool accepted;
    struct written written = {0};
    struct work w = work_into(&self->source, &out);
    Py_BEGIN_ALLOW_THREADS
    accepted = put_statements(&w, &self->records, &written);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&out);
    PyObject *why = refusal(accepted, &w, &self->source);
    const size_t *sizes = written.sizes, *counts = written.counts;
    return why ? Py_BuildValue("((nn)(nn)(nn))N", (Py_ssize_t)sizes[0], (Py_ssize_t)counts[0],
                               (Py_ssize_t)sizes[1], (Py_ssize_t)counts[1], (Py_ssize_t)sizes[2],
                               (Py_ssize_t)counts[2], why)
               : NULL;
}

static PyObject *changes_found(Changes *self, void *closure)
{
    (void)closure;
    const struct records *records = &self->records;
    const struct bytes *sequence = &records->sequence, *created = &records->created;
    return Py_BuildValue("nn(nn)s#s#", (Py_ssize_t)records->page.count,
                         (Py_ssize_t)records->change_count, (Py_ssize_t)records->page.array_at,
                         (Py_ssize_t)records->page.array_end,
                         sequence->data ? (const char *)sequence->data : "",
                         (Py_ssize_t)sequence->length,
                         created->data ? (const char *)created->data : "0",
                         created->data ? (Py_ssize_t)created->length : 1);
}

static PyMethodDef changes_methods[] = {
    {"fill", (PyCFunction)changes_fill, METH_VARARGS, NULL},
    {0},
};

static PyGetSetDef changes_fields[] = {
    {"found", (getter)changes_found, NULL, NULL, NULL},
    {0},
};

static PyType_Slot changes_slots[] = {
    {Py_tp_new, changes_new},         {Py_tp_dealloc, changes_dealloc},
    {Py_tp_methods, changes_methods}, {Py_tp_getset, changes_fields},
    {0, NULL},
};

static PyType_Spec changes_spec = {
    .name = "shake.codec._transcoder.Changes",
    .basicsize = sizeof(Changes),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = changes_slots,
};

/* -- batches ----------------------------------------------------------------------------------- */

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
    {"documents", documents, METH_VARARGS, NULL},
    {"batches", batches, METH_VARARGS, NULL},
    {"add_sums", add_sums, METH_VARARGS, NULL},
    {"cut_reply", cut_reply, METH_VARARGS, NULL},
    {0},
};

static int transcoder_exec(PyObject *module)
{
    PyType_Spec *const specs[] = {&changes_spec, &matcher_spec, &digests_spec};
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
