/* The Python binding of `Matcher`. */
#include "module_check.h"

#include <stdlib.h>

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

PyDoc_STRVAR(matcher_filter_doc, "filter(first, last, scanned): see shake.codec.contract.Matcher.");

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

PyDoc_STRVAR(matcher_match_doc, "match(stored): see shake.codec.contract.Matcher.");

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

PyDoc_STRVAR(matcher_unmatched_doc, "unmatched(): see shake.codec.contract.Matcher.");

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

PyDoc_STRVAR(matcher_add_doc, "add(sums): see shake.codec.contract.Matcher.");

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
    {"filter", (PyCFunction)matcher_filter, METH_VARARGS, matcher_filter_doc},
    {"match", (PyCFunction)matcher_match, METH_VARARGS, matcher_match_doc},
    {"unmatched", (PyCFunction)matcher_unmatched, METH_NOARGS, matcher_unmatched_doc},
    {"add", (PyCFunction)matcher_add, METH_VARARGS, matcher_add_doc},
    {0},
};

PyDoc_STRVAR(matcher_doc,
             "Matcher(documents, seed, ours, stored)\n\nSee shake.codec.contract.Matcher.");

static PyType_Slot matcher_slots[] = {
    {Py_tp_doc, (void *)matcher_doc}, {Py_tp_new, matcher_new},
    {Py_tp_dealloc, matcher_dealloc}, {Py_tp_methods, matcher_methods},
    {Py_sq_length, matcher_length},   {0, NULL},
};

PyType_Spec matcher_spec = {
    .name = "shake.codec._transcoder.Matcher",
    .basicsize = sizeof(Matcher),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = matcher_slots,
};
