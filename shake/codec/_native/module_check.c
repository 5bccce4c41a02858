/* The Python binding of what compares stored documents. */
#include "binding.h"

#include <stdlib.h>

#include "matcher.h"
#include "reply.h"

/* A sum for each bucket; see shake.codec.contract.Digests. */
struct sums {
    uint64_t *buckets;
    size_t count;
};

static struct bytes whole(const Py_buffer *buffer)
{
    return bytes_of(buffer->buf, buffer->len);
}

static size_t bucket_of(const struct digest *digest, size_t count)
{
    return digest->high & (count - 1);
}

static void add(struct sums *sums, const struct digest *digest)
{
    sums->buckets[bucket_of(digest, sums->count)] += digest->low;
}

/* Take a shake.codec.contract.KeyForm; false with an exception set, as the next two. */
static bool take_form(struct key_form *form, PyObject *from)
{
    PyObject *all_names, *all_types;
    const char *names[2] = {NULL, NULL};
    Py_ssize_t lengths[2];
    int by_id, raw;
    char types[2];
    if (!PyArg_ParseTuple(from, "ppO!O!;a form", &by_id, &raw, &PyTuple_Type, &all_names,
                          &PyTuple_Type, &all_types) ||
        !PyArg_ParseTuple(all_names, "y#|y#;names", &names[0], &lengths[0], &names[1],
                          &lengths[1]) ||
        !PyArg_ParseTuple(all_types, "c|c;types", &types[0], &types[1]))
        return false;
    *form = (struct key_form){.by_id = by_id, .raw = raw};
    for (; form->count < 2 && names[form->count]; form->count++) {
        form->names[form->count] = bytes_of(names[form->count], lengths[form->count]);
        form->types[form->count] = (uint8_t)types[form->count];
    }
    return true;
}

static bool take_seed(struct seed *seed, const char *data, Py_ssize_t length)
{
    if (length != SEED_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "a seed has 16 bytes");
        return false;
    }
    *seed = (struct seed){get64((const uint8_t *)data), get64((const uint8_t *)data + 8)};
    return true;
}

static bool take_sums(struct sums *sums, const Py_buffer *buffer)
{
    *sums = (struct sums){buffer->buf, (size_t)buffer->len / sizeof *sums->buckets};
    if (sums->count > 0 && !(sums->count & (sums->count - 1)) &&
        (size_t)buffer->len % sizeof *sums->buckets == 0 &&
        (uintptr_t)buffer->buf % sizeof *sums->buckets == 0)
        return true;
    PyErr_SetString(PyExc_ValueError, "there must be 2**n buckets of 8 bytes");
    return false;
}

PyObject *add_sums(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer buffer, other;
    struct sums sums;
    if (!PyArg_ParseTuple(args, "w*y*:add_sums", &buffer, &other))
        return NULL;
    bool taken = take_sums(&sums, &buffer);
    if (taken && other.len != buffer.len) {
        PyErr_SetString(PyExc_ValueError, "there must be as many sums");
        taken = false;
    }
    for (size_t i = 0; taken && i < sums.count; i++) {
        uint64_t more;
        memcpy(&more, (const uint8_t *)other.buf + i * sizeof more, sizeof more);
        sums.buckets[i] += more;
    }
    PyBuffer_Release(&other);
    PyBuffer_Release(&buffer);
    return taken ? Py_NewRef(Py_None) : NULL;
}

/* -- answers ----------------------------------------------------------------------------------- */

/* Of a new bytes object. */
static uint8_t *start_of(PyObject *bytes)
{
    return (uint8_t *)PyBytes_AsString(bytes);
}

static PyObject *cut_at(struct bytes reply, const struct batch *batch)
{
    size_t size;
    if (!find_size(batch, &size)) {
        PyErr_SetString(PyExc_ValueError, "a batch that holds something else than documents");
        return NULL;
    }
    PyObject *rest = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)rest_size(&reply, batch));
    PyObject *documents = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (rest && documents) {
        cut_batch(reply, batch, start_of(rest), start_of(documents));
        return Py_BuildValue("NN", rest, documents);
    }
    Py_XDECREF(rest);
    Py_XDECREF(documents);
    return NULL;
}

PyObject *cut_reply(PyObject *module, PyObject *args)
{
    (void)module;
    Py_buffer reply;
    struct batch batch;
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*:cut_reply", &reply))
        return NULL;
    if (!find_batch(whole(&reply), &batch))
        PyErr_SetString(PyExc_ValueError, "a broken answer");
    else if (batch.array.data)
        answer = cut_at(whole(&reply), &batch);
    else
        answer = Py_BuildValue("y#y#", reply.buf, reply.len, "", (Py_ssize_t)0);
    PyBuffer_Release(&reply);
    return answer;
}

/* -- Digests ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct seed seed;
    struct key_form form;
    PyObject *arguments; /* hold the names of the form */
} Digests;

static PyObject *digests_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *form;
    const char *seed;
    Py_ssize_t seed_length;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#O!:Digests", &seed, &seed_length, &PyTuple_Type, &form))
        return NULL;
    Digests *self = (Digests *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    self->arguments = Py_NewRef(args);
    if (take_seed(&self->seed, seed, seed_length) && take_form(&self->form, form))
        return (PyObject *)self;
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void digests_dealloc(PyObject *object)
{
    Digests *self = (Digests *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->arguments);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static PyObject *digests_add(Digests *self, PyObject *args)
{
    Py_buffer documents, buffer;
    struct sums sums;
    struct bytes fields;
    size_t count = 0;
    if (!PyArg_ParseTuple(args, "y*w*:add", &documents, &buffer))
        return NULL;
    bool taken = take_sums(&sums, &buffer);
    struct bytes left = whole(&documents);
    while (taken && left.length && (taken = take_document(&left, &fields))) {
        struct digest digest = digest_key(&self->seed, &self->form, fields);
        add(&sums, &digest);
        count++;
    }
    PyBuffer_Release(&buffer);
    PyBuffer_Release(&documents);
    if (taken)
        return PyLong_FromSize_t(count);
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, not_documents);
    return NULL;
}

static bool is_marked(const Py_buffer *marks, const struct digest *digest)
{
    size_t bucket = bucket_of(digest, (size_t)marks->len * 8);
    return ((const uint8_t *)marks->buf)[bucket / 8] >> bucket % 8 & 1;
}

static bool add_cut(PyObject *cuts, const struct bytes *fields)
{
    PyObject *document = PyBytes_FromStringAndSize((const char *)fields->data - 4,
                                                   (Py_ssize_t)fields->length + 5);
    bool added = document && !PyList_Append(cuts, document);
    Py_XDECREF(document);
    return added;
}

static PyObject *digests_within(Digests *self, PyObject *args)
{
    Py_buffer documents, marks;
    struct bytes fields;
    if (!PyArg_ParseTuple(args, "y*y*:within", &documents, &marks))
        return NULL;
    PyObject *found = NULL;
    if (marks.len == 0 || marks.len & (marks.len - 1))
        PyErr_SetString(PyExc_ValueError, "there must be 2**n bytes of marks");
    else
        found = PyList_New(0);
    struct bytes left = whole(&documents);
    while (found && left.length) {
        if (!take_document(&left, &fields)) {
            PyErr_SetString(PyExc_ValueError, not_documents);
            Py_CLEAR(found);
            break;
        }
        struct digest digest = digest_key(&self->seed, &self->form, fields);
        if (is_marked(&marks, &digest) && !add_cut(found, &fields))
            Py_CLEAR(found);
    }
    PyBuffer_Release(&marks);
    PyBuffer_Release(&documents);
    return found;
}

/* The fields of a document that is alone; false with an exception set. */
static bool take_one(PyObject *args, Py_buffer *document, struct bytes *fields)
{
    if (!PyArg_ParseTuple(args, "y*", document))
        return false;
    struct bytes left = whole(document);
    if (take_document(&left, fields) && !left.length)
        return true;
    PyBuffer_Release(document);
    PyErr_SetString(PyExc_ValueError, not_documents);
    return false;
}

static PyObject *as_bytes(const struct digest *digest)
{
    uint8_t text[DIGEST_LENGTH];
    put_digest(text, digest);
    return PyBytes_FromStringAndSize((const char *)text, DIGEST_LENGTH);
}

static PyObject *digests_key(Digests *self, PyObject *args)
{
    Py_buffer document;
    struct bytes fields;
    if (!take_one(args, &document, &fields))
        return NULL;
    struct digest digest = digest_key(&self->seed, &self->form, fields);
    PyBuffer_Release(&document);
    return as_bytes(&digest);
}

static PyObject *digests_fields(Digests *self, PyObject *args)
{
    Py_buffer document;
    struct bytes fields;
    struct digest digest;
    if (!take_one(args, &document, &fields))
        return NULL;
    bool certain = digest_fields(&self->seed, fields, &digest);
    PyBuffer_Release(&document);
    return certain ? as_bytes(&digest) : Py_NewRef(Py_None);
}

static PyMethodDef digests_methods[] = {
    {"add", (PyCFunction)digests_add, METH_VARARGS, NULL},
    {"within", (PyCFunction)digests_within, METH_VARARGS, NULL},
    {"key", (PyCFunction)digests_key, METH_VARARGS, NULL},
    {"fields", (PyCFunction)digests_fields, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot digests_slots[] = {
    {Py_tp_new, digests_new},
    {Py_tp_dealloc, digests_dealloc},
    {Py_tp_methods, digests_methods},
    {0, NULL},
};

PyType_Spec digests_spec = {
    .name = "shake.codec._transcoder.Digests",
    .basicsize = sizeof(Digests),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = digests_slots,
};

/* -- Matcher ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct matcher matcher;
    Py_buffer documents;
    PyObject *arguments; /* hold the names of the forms */
} Matcher;

static PyObject *matcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *ours, *stored;
    const char *seed, *reason;
    Py_buffer documents;
    Py_ssize_t seed_length;
    bool accepted;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y*y#O!O!:Matcher", &documents, &seed, &seed_length, &PyTuple_Type,
                          &ours, &PyTuple_Type, &stored))
        return NULL;
    Matcher *self = (Matcher *)PyType_GenericAlloc(type, 0);
    if (!self) {
        PyBuffer_Release(&documents);
        return NULL;
    }
    struct matcher *m = &self->matcher;
    self->arguments = Py_NewRef(args);
    self->documents = documents;
    m->documents = whole(&documents);
    if (!take_seed(&m->seed, seed, seed_length) || !take_form(&m->ours, ours) ||
        !take_form(&m->stored, stored))
        goto failed;
    Py_BEGIN_ALLOW_THREADS
    accepted = read_expected(m, &reason);
    Py_END_ALLOW_THREADS
    if (accepted)
        return (PyObject *)self;
    PyErr_SetString(reason == no_memory ? PyExc_MemoryError : PyExc_ValueError, reason);
failed:
    Py_DECREF((PyObject *)self);
    return NULL;
}

static void matcher_dealloc(PyObject *object)
{
    Matcher *self = (Matcher *)object;
    PyTypeObject *type = Py_TYPE(object);
    free_matcher(&self->matcher);
    PyBuffer_Release(&self->documents);
    Py_XDECREF(self->arguments);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static PyObject *matcher_filter(Matcher *self, PyObject *args)
{
    Py_ssize_t first, last;
    int scanned;
    if (!PyArg_ParseTuple(args, "nnp:filter", &first, &last, &scanned))
        return NULL;
    const struct matcher *m = &self->matcher;
    if (first < 0 || first >= last || (size_t)last > m->count) {
        PyErr_SetString(PyExc_IndexError, "there are no such documents");
        return NULL;
    }
    size_t room = filter_room(m, (size_t)first, (size_t)last);
    uint8_t *text = malloc(room);
    if (!text)
        return PyErr_NoMemory();
    struct work w = {.base = text, .out = text, .limit = text + room};
    put_filter(m, &w, (size_t)first, (size_t)last, scanned);
    PyObject *filter = PyBytes_FromStringAndSize((const char *)text, (Py_ssize_t)offset(&w));
    free(text);
    return filter;
}

static PyObject *matcher_match(Matcher *self, PyObject *args)
{
    Py_buffer stored;
    bool accepted;
    if (!PyArg_ParseTuple(args, "y*:match", &stored))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    accepted = match(&self->matcher, whole(&stored));
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&stored);
    if (accepted)
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, not_documents);
    return NULL;
}

static PyObject *matcher_unmatched(Matcher *self, PyObject *args)
{
    (void)args;
    PyObject *numbers = PyList_New(0);
    for (size_t i = 0; numbers && i < self->matcher.count; i++) {
        if (is_matched(&self->matcher.expected[i]))
            continue;
        PyObject *number = PyLong_FromSize_t(i);
        if (!number || PyList_Append(numbers, number))
            Py_CLEAR(numbers);
        Py_XDECREF(number);
    }
    return numbers;
}

static PyObject *matcher_add(Matcher *self, PyObject *args)
{
    Py_buffer buffer;
    struct sums sums;
    size_t added = 0;
    if (!PyArg_ParseTuple(args, "w*:add", &buffer))
        return NULL;
    bool taken = take_sums(&sums, &buffer);
    for (size_t i = 0; taken && i < self->matcher.count; i++) {
        const struct expected *e = &self->matcher.expected[i];
        if (is_matched(e)) {
            add(&sums, &e->key);
            added++;
        }
    }
    PyBuffer_Release(&buffer);
    return taken ? PyLong_FromSize_t(added) : NULL;
}

static Py_ssize_t matcher_length(Matcher *self)
{
    return (Py_ssize_t)self->matcher.count;
}

static PyMethodDef matcher_methods[] = {
    {"filter", (PyCFunction)matcher_filter, METH_VARARGS, NULL},
    {"match", (PyCFunction)matcher_match, METH_VARARGS, NULL},
    {"unmatched", (PyCFunction)matcher_unmatched, METH_NOARGS, NULL},
    {"add", (PyCFunction)matcher_add, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot matcher_slots[] = {
    {Py_tp_new, matcher_new},         {Py_tp_dealloc, matcher_dealloc},
    {Py_tp_methods, matcher_methods}, {Py_sq_length, matcher_length},
    {0, NULL},
};

PyType_Spec matcher_spec = {
    .name = "shake.codec._transcoder.Matcher",
    .basicsize = sizeof(Matcher),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = matcher_slots,
};
