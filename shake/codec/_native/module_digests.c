/* The Python binding of `Digests`. */
#include "module_check.h"

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

PyDoc_STRVAR(digests_add_doc, "add(documents, sums): see shake.codec.contract.Digests.");

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

PyDoc_STRVAR(digests_within_doc, "within(documents, marks): see shake.codec.contract.Digests.");

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

PyDoc_STRVAR(digests_key_doc, "key(document): see shake.codec.contract.Digests.");

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

PyDoc_STRVAR(digests_fields_doc, "fields(document): see shake.codec.contract.Digests.");

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
    {"add", (PyCFunction)digests_add, METH_VARARGS, digests_add_doc},
    {"within", (PyCFunction)digests_within, METH_VARARGS, digests_within_doc},
    {"key", (PyCFunction)digests_key, METH_VARARGS, digests_key_doc},
    {"fields", (PyCFunction)digests_fields, METH_VARARGS, digests_fields_doc},
    {0},
};

PyDoc_STRVAR(digests_doc, "Digests(seed, form)\n\nSee shake.codec.contract.Digests.");

static PyType_Slot digests_slots[] = {
    {Py_tp_doc, (void *)digests_doc}, {Py_tp_new, digests_new},
    {Py_tp_dealloc, digests_dealloc}, {Py_tp_methods, digests_methods},
    {0, NULL},
};

PyType_Spec digests_spec = {
    .name = "shake.codec._transcoder.Digests",
    .basicsize = sizeof(Digests),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = digests_slots,
};
