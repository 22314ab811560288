"""Content keys: which inputs are the same, byte for byte."""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItemWithError, PyDict_Size
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from xxhash import xxh3_128_digest

cnp.import_array()

cdef extern from "Python.h":
    int PyBUF_READ

cdef enum:
    UNLOCKED = 16 << 10     # from here bytes are compared without the interpreter's lock


cdef inline cnp.ndarray plain(object feeds, object name):
    """The array of that name when its bytes lie in one piece and mean numbers, else None."""
    cdef PyObject* found = PyDict_GetItemWithError(feeds, name)
    if found == NULL or not cnp.PyArray_CheckExact(<object>found):
        return None
    cdef cnp.ndarray array = <cnp.ndarray>found
    if not cnp.PyArray_IS_C_CONTIGUOUS(array) or not cnp.PyArray_ISNUMBER(array) and not cnp.PyArray_ISBOOL(array):
        return None
    return array if cnp.PyArray_ISNOTSWAPPED(array) else None


def content_key(feeds, tuple names not None, bytes context not None):
    """128-bit key (XXH3) over dtype, shape and bytes of every input, and `context`.

    Bytes count, not values: NaNs of the same bits are equal, 0.0 and -0.0 are not.

    Parameters
    ----------
    feeds : dict of str to ndarray
    names : tuple of str
        Every name in `feeds`, in the order that the key follows.
    context : bytes
        What else decides the result: the model's fingerprint, the settings.

    Returns
    -------
    bytes or None
        16 bytes; None when an input is missing, strided, byte-swapped, or not of numbers.
    """
    cdef Py_ssize_t i, size, count = len(names)
    cdef cnp.ndarray array
    cdef bytes digest, header
    cdef list parts = [context]
    cdef int64_t* fields
    if not PyDict_CheckExact(feeds) or PyDict_Size(feeds) != count:
        return None
    for i in range(count):
        array = plain(feeds, names[i])
        if array is None:
            return None
        digest = xxh3_128_digest(PyMemoryView_FromMemory(<char*>cnp.PyArray_DATA(array), array.nbytes, PyBUF_READ))
        size = cnp.PyArray_NDIM(array)
        header = PyBytes_FromStringAndSize(NULL, (2 + size) * sizeof(int64_t))
        fields = <int64_t*>PyBytes_AS_STRING(header)
        fields[0] = cnp.PyArray_TYPE(array)
        fields[1] = size
        for k in range(size):
            fields[2 + k] = cnp.PyArray_DIMS(array)[k]
        parts += (header, digest)
    return xxh3_128_digest(b"".join(parts))


def same_bytes(tuple stored not None, feeds, tuple names not None):
    """Whether the arrays in `feeds` equal those `stored` in dtype, shape and every byte.

    Parameters
    ----------
    stored : tuple of ndarray
        C-contiguous, in the order of `names`.
    feeds : dict of str to ndarray
        For which `content_key` gave a key.
    """
    cdef Py_ssize_t i
    cdef cnp.ndarray ours, theirs
    cdef size_t size
    cdef int k, different
    cdef const char* left
    cdef const char* right
    for i in range(len(names)):
        ours = <cnp.ndarray>stored[i]
        theirs = plain(feeds, names[i])
        if theirs is None or cnp.PyArray_TYPE(ours) != cnp.PyArray_TYPE(theirs):
            return False
        if cnp.PyArray_NDIM(ours) != cnp.PyArray_NDIM(theirs):
            return False
        for k in range(cnp.PyArray_NDIM(ours)):
            if cnp.PyArray_DIMS(ours)[k] != cnp.PyArray_DIMS(theirs)[k]:
                return False
        size = ours.nbytes
        left, right = <const char*>cnp.PyArray_DATA(ours), <const char*>cnp.PyArray_DATA(theirs)
        if size >= UNLOCKED:
            with nogil:
                different = memcmp(left, right, size)
        else:
            different = memcmp(left, right, size)
        if different:
            return False
    return True
