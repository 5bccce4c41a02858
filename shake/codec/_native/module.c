/* The Python binding: `Documents`, made of a Scan response, gives out its documents once. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "page.h"
#include "text.h"

typedef struct {
    PyObject_HEAD
    struct page page;
    struct options options;
    PyObject *arguments; /* hold the names that the options point to */
    Py_buffer body;      /* the response, with the 0 behind it */
    const uint8_t *end;  /* of the response */
} Documents;

/* (reason, position), or NULL with MemoryError set. */
static PyObject *refusal(const struct work *w, const uint8_t *body)
{
    if (w->reason == no_memory)
        return PyErr_NoMemory();
    return Py_BuildValue("sn", w->reason, (Py_ssize_t)(w->where - body));
}

static struct work work_on(Documents *self)
{
    return (struct work){.options = &self->options, .end = self->end};
}

static bool take_body(Documents *self, PyObject *body)
{
    if (PyObject_GetBuffer(body, &self->body, PyBUF_SIMPLE))
        return false;
    const uint8_t *data = self->body.buf;
    Py_ssize_t length = self->body.len;
    /* A 0 follows the data of every bytes object; what lies in a buffer has to bring one. */
    if (!PyBytes_Check(body) && (length == 0 || data[--length])) {
        PyErr_SetString(PyExc_ValueError, "the response is not followed by a 0");
        return false;
    }
    self->end = data + length;
    struct work w = work_on(self);
    if (open_page(&w, data, &self->page))
        return true;
    PyObject *arguments = refusal(&w, data);
    if (arguments)
        PyErr_SetObject(PyExc_ValueError, arguments);
    Py_XDECREF(arguments);
    return false;
}

static PyObject *documents_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *body;
    const char *renamed, *names[2];
    Py_ssize_t renamed_length, lengths[2];
    int convert, overflow_is_error, id_is_key;
    struct options options = {0};
    if (kwargs && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Documents takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "Oippz#y#Iz#I:Documents", &body, &convert, &overflow_is_error,
                          &id_is_key, &renamed, &renamed_length, &names[0], &lengths[0],
                          &options.keys[0].type, &names[1], &lengths[1], &options.keys[1].type))
        return NULL;
    options.convert = (enum convert)convert;
    options.overflow_is_error = overflow_is_error;
    options.id_is_key = id_is_key;
    options.renamed = (struct bytes){(const uint8_t *)renamed, (size_t)renamed_length};
    for (; options.key_count < 2 && names[options.key_count]; options.key_count++) {
        struct bytes *name = &options.keys[options.key_count].name;
        name->data = (const uint8_t *)names[options.key_count];
        name->length = (size_t)lengths[options.key_count];
    }
    Documents *self = (Documents *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->options = options;
    self->arguments = Py_NewRef(args);
    if (!take_body(self, body)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void documents_dealloc(PyObject *object)
{
    Documents *self = (Documents *)object;
    PyTypeObject *type = Py_TYPE(self);
    PyBuffer_Release(&self->body);
    Py_XDECREF(self->arguments);
    type->tp_free(self);
    Py_DECREF(type);
}

/* A document needs a few bytes more while it is written than it is long. So where the next one
 * seems not to fit, it is written elsewhere, to see; false when it does not. */
static bool squeeze(struct work *w, const uint8_t *body, struct page *page)
{
    size_t left = (size_t)(w->limit - w->out), size = 2 * left + 1024; /* base64 is 4/3 of its data */
    uint8_t *room = left < MAX_DOCUMENT ? malloc(size) : NULL;
    if (!room)
        return false;
    struct page after = *page;
    struct work elsewhere = *w;
    elsewhere.base = elsewhere.out = room;
    elsewhere.limit = room + size;
    elsewhere.reason = NULL;
    put_items(&elsewhere, body, &after, 1);
    size_t used = offset(&elsewhere), documents = after.count - page->count;
    bool fits = used <= left;
    if (fits) {
        append(w, room, used);
        w->number += documents;
        *page = after;
    }
    free(room);
    return fits && documents;
}

PyDoc_STRVAR(fill_doc, "fill(out, prefix, number): see shake.codec.contract.ScanPage.\n\n"
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
    const uint8_t *body = self->body.buf;
    bool accepted = true;
    size_t before = self->page.count;
    PyObject *answer = NULL;
    struct work w = work_on(self);
    w.base = w.out = out.buf;
    w.limit = w.base + out.len;
    w.prefix = (const uint8_t *)prefix;
    w.number = (uint64_t)number + before;
    if (prefix_length != PREFIX_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "the prefix of an ObjectId has 7 bytes");
    } else {
        Py_BEGIN_ALLOW_THREADS
        accepted = self->page.done || put_items(&w, body, &self->page, SIZE_MAX);
        if (accepted && w.reason == no_room)
            while (!self->page.done && squeeze(&w, body, &self->page))
                ;
        Py_END_ALLOW_THREADS
        size_t count = self->page.count - before;
        PyObject *why = accepted ? Py_NewRef(Py_None) : refusal(&w, body);
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
    return Py_BuildValue("nn", (Py_ssize_t)self->page.items_at, (Py_ssize_t)self->page.items_end);
}

static PyMethodDef documents_methods[] = {
    {"fill", (PyCFunction)documents_fill, METH_VARARGS, fill_doc},
    {0},
};

static PyGetSetDef documents_fields[] = {
    {"done", (getter)documents_done, NULL, "whether all documents are given out", NULL},
    {"count", (getter)documents_count, NULL, "how many documents are given out", NULL},
    {"items", (getter)documents_items, NULL, "where the array of items is, once done", NULL},
    {0},
};

PyDoc_STRVAR(documents_doc,
             "Documents(page, convert, overflow_is_error, id_is_key, renamed,\n"
             "          partition, partition_type, sort, sort_type)\n\n"
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
    {0},
};

static int transcoder_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&documents_spec);
    int status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
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
