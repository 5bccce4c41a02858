/* What the files of the Python binding share. */
#ifndef SHAKE_BINDING_H
#define SHAKE_BINDING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "work.h"

extern PyType_Spec matcher_spec, digests_spec;

PyObject *add_sums(PyObject *module, PyObject *args);
PyObject *cut_reply(PyObject *module, PyObject *args);

static inline struct bytes bytes_of(const char *data, Py_ssize_t length)
{
    return (struct bytes){(const uint8_t *)data, (size_t)length};
}

#endif
