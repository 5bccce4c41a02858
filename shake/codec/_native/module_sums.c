/* What the Python binding of all that compares shares, and the functions of sums and answers. */
#include "module_check.h"

#include <string.h>

#include "reply.h"

bool take_form(struct key_form *form, PyObject *arguments)
{
    const char *names[2];
    Py_ssize_t lengths[2];
    int by_id, raw;
    char types[2];
    if (!PyArg_ParseTuple(arguments, "ppy#cz#c;a form", &by_id, &raw, &names[0], &lengths[0],
                          &types[0], &names[1], &lengths[1], &types[1]))
        return false;
    *form = (struct key_form){.by_id = by_id, .raw = raw};
    for (; form->count < 2 && names[form->count]; form->count++) {
        form->names[form->count] = bytes_of(names[form->count], lengths[form->count]);
        form->types[form->count] = (uint8_t)types[form->count];
    }
    return true;
}

bool take_seed(struct seed *seed, const char *data, Py_ssize_t length)
{
    if (length != SEED_LENGTH) {
        PyErr_SetString(PyExc_ValueError, "a seed has 16 bytes");
        return false;
    }
    *seed = (struct seed){get64((const uint8_t *)data), get64((const uint8_t *)data + 8)};
    return true;
}

bool take_sums(struct sums *sums, const Py_buffer *buffer)
{
    *sums = (struct sums){buffer->buf, (size_t)buffer->len / sizeof *sums->buckets};
    if (sums->count > 0 && !(sums->count & (sums->count - 1)) &&
        (size_t)buffer->len % sizeof *sums->buckets == 0 &&
        (uintptr_t)buffer->buf % sizeof *sums->buckets == 0)
        return true;
    PyErr_SetString(PyExc_ValueError, "there must be 2**n buckets of 8 bytes");
    return false;
}

const char add_sums_doc[] = "add_sums(sums, more): see shake.codec.contract.Codec.";

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

/* -- answers -------------------------------------------------------------------------------------- */

/* Of a new bytes object. */
static uint8_t *start_of(PyObject *bytes)
{
    return (uint8_t *)PyBytes_AsString(bytes);
}

const char cut_reply_doc[] = "cut_reply(reply): see shake.codec.contract.Codec.";

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
