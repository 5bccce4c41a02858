/* The Python binding: `Documents`, made of a Scan response, gives out its documents once. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "page.h"
#include "text.h"

/* An ObjectId in a document: behind length, type and name; a prefix and 5 bytes of number. */
enum { OBJECT_ID_AT = 4 + 1 + 4, PREFIX_LENGTH = 7, NUMBER_LENGTH = 5 };

typedef struct {
    PyObject_HEAD
    struct page page;
    uint8_t *data;
    size_t at;        /* of the next document */
    Py_ssize_t given; /* documents before it */
    bool id_is_key;
} Documents;

/* Raises ValueError(reason, position), or MemoryError. */
static void raise_refusal(const struct work *w, const uint8_t *body)
{
    if (w->reason == no_memory) {
        PyErr_NoMemory();
        return;
    }
    PyObject *arguments = Py_BuildValue("sn", w->reason, (Py_ssize_t)(w->where - body));
    if (arguments) {
        PyErr_SetObject(PyExc_ValueError, arguments);
        Py_DECREF(arguments);
    }
}

static bool transcode(Documents *self, const struct options *options, PyObject *page)
{
    /* A 0 follows the data of every bytes object. */
    const uint8_t *body = (const uint8_t *)PyBytes_AS_STRING(page), *behind = NULL;
    size_t length = (size_t)PyBytes_GET_SIZE(page);
    struct work w = {.options = options, .end = body + length};
    Py_BEGIN_ALLOW_THREADS
    if (grow(&w, length / 2 + STEP)) /* which doubles it: most pages become no larger */
        behind = put_page(&w, body, &self->page);
    Py_END_ALLOW_THREADS
    self->data = w.base;
    if (!behind)
        raise_refusal(&w, body);
    return behind != NULL;
}

static PyObject *documents_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *page;
    const char *renamed, *names[2];
    Py_ssize_t renamed_length, lengths[2];
    int convert, overflow_is_error, id_is_key;
    struct options options = {0};
    if (kwargs && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Documents takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "Sippz#y#Iz#I:Documents", &page, &convert, &overflow_is_error,
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
    self->id_is_key = id_is_key;
    if (!transcode(self, &options, page)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void documents_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(((Documents *)self)->data);
    type->tp_free(self);
    Py_DECREF(type);
}

static void set_object_ids(uint8_t *documents, size_t size, const char *prefix, uint64_t number)
{
    for (size_t at = 0; at < size; at += get32(documents + at), number++) {
        uint8_t *object_id = documents + at + OBJECT_ID_AT;
        memcpy(object_id, prefix, PREFIX_LENGTH);
        for (unsigned i = 0; i < NUMBER_LENGTH; i++)
            object_id[PREFIX_LENGTH + i] = (uint8_t)(number >> 8 * (NUMBER_LENGTH - 1 - i));
    }
}

PyDoc_STRVAR(fill_doc, "fill(out, prefix, number): see shake.codec.contract.ScanPage.\n\n"
                       "Gives (0, 0) where the next document is larger than out.");

static PyObject *documents_fill(Documents *self, PyObject *args)
{
    Py_buffer out;
    const char *prefix;
    Py_ssize_t prefix_length;
    long long number;
    if (!PyArg_ParseTuple(args, "w*y#L:fill", &out, &prefix, &prefix_length, &number))
        return NULL;
    const uint8_t *from = self->data + self->at;
    Py_ssize_t used = 0, count = 0, left = (Py_ssize_t)self->page.count - self->given;
    while (count < left) {
        Py_ssize_t length = get32(from + used);
        if (length > out.len - used)
            break;
        used += length;
        count++;
    }
    PyObject *answer = NULL;
    if (prefix_length != PREFIX_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "the prefix of an ObjectId has 7 bytes");
    } else if (number < 0 || number > (1LL << 8 * NUMBER_LENGTH) - self->given - count) {
        PyErr_SetString(PyExc_OverflowError, "the number of an ObjectId has 5 bytes");
    } else if ((answer = Py_BuildValue("nn", used, count))) {
        uint64_t first = (uint64_t)(number + self->given);
        self->at += (size_t)used;
        self->given += count;
        Py_BEGIN_ALLOW_THREADS
        memcpy(out.buf, from, (size_t)used);
        if (!self->id_is_key)
            set_object_ids(out.buf, (size_t)used, prefix, first);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&out);
    return answer;
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
    {"count", (getter)documents_count, NULL, "how many documents", NULL},
    {"items", (getter)documents_items, NULL, "where the array of items is in the page", NULL},
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
    .m_slots = transcoder_slots,
};

PyMODINIT_FUNC PyInit__transcoder(void)
{
    return PyModuleDef_Init(&transcoder);
}
