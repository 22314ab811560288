"""One run from feeds to results without a detour: which arrays it is bound to, what moved, where its results live.

`Frame` is one side of a run, `BoundRun` is both sides and the call between them. Neither knows the inference engine:
it is handed what makes a value of an array, what binds a value to a name, and what runs.
"""

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItemWithError, PyDict_Size
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from omni_sdk._buffers cimport DIMENSIONS, BufferPool, array_at, leased_array, measure

cnp.import_array()

cdef enum:
    PLACES = 8          # addresses remembered for each array: buffers of a pool come round again
    STRANGE = 16        # addresses never seen before, in a row, after which an input is staged
    STAGED = 16 << 10   # bytes: copying this much costs less than binding another address
    BINDINGS = 2        # of a run: buffers that take turns, such as a state handed back, then are bound once

cdef struct Slot:
    PyObject* name          # borrowed from Frame.names
    PyObject* dtype         # borrowed from Frame.dtypes
    int ndim
    cnp.npy_intp* dims
    size_t nbytes
    PyObject* array         # owned while a run lasts
    void* address           # where that run reads or writes
    void* bound[BINDINGS]   # what either binding is bound to; NULL when unbound
    void* places[PLACES]    # addresses that Frame.values has values for
    int next_place
    int strange             # addresses never seen before, in a row


@cython.final
cdef class Frame:
    """Names, dtypes and shapes of one side of a bound run, and where its arrays lie.

    Ownership: the frame holds the arrays for as long as a run lasts, so that nobody frees one under it; beyond that it
    remembers addresses only. A value carries an address to the engine, and is bound only while an array lies there.
    Not shared between threads: each bound run has its own frames.

    Parameters
    ----------
    names : tuple of str
    dtypes : tuple of dtype-like
    shapes : tuple of tuple of int
    binds : tuple of two callables
        Either binds a value to a name, in a binding of its own.
    value_of : callable
        What the engine takes for the array at an index: called with the index and an array that owns nothing.
    stager : BufferPool, optional
        Given, small arrays that lie elsewhere every time are copied in the end to where one stays bound: the bytes cost
        less than the binding. The pool counts them.
    """

    cdef readonly tuple names
    cdef readonly tuple dtypes
    cdef readonly tuple shapes
    cdef tuple binds
    cdef object value_of
    cdef BufferPool stager
    cdef list values        # the engine's values, PLACES for each array
    cdef list stages        # arrays that stay bound, None for those bound where they lie
    cdef Slot* slots
    cdef Py_ssize_t count

    def __cinit__(self, names, dtypes, shapes, binds, value_of, BufferPool stager=None):
        cdef Py_ssize_t i
        cdef cnp.npy_intp dims[DIMENSIONS]
        cdef Slot* slot
        self.names = tuple(names)
        self.dtypes = tuple(cnp.dtype(dtype) for dtype in dtypes)
        self.shapes = tuple(tuple(int(size) for size in shape) for shape in shapes)
        self.binds = tuple(binds)
        self.value_of = value_of
        self.stager = stager
        self.count = len(self.names)
        self.values = [None] * (self.count * PLACES)
        self.stages = [None] * self.count
        if not (len(self.dtypes) == len(self.shapes) == self.count) or len(self.binds) != BINDINGS:
            raise ValueError("Expected as many dtypes and shapes as names, and two that bind - at Frame")
        self.slots = <Slot*>calloc(self.count if self.count else 1, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        for i in range(self.count):
            slot = &self.slots[i]
            slot.name = <PyObject*>self.names[i]
            slot.dtype = <PyObject*>self.dtypes[i]
            slot.ndim = len(self.shapes[i])
            slot.nbytes = measure(self.dtypes[i], self.shapes[i], dims, self.names[i])
            slot.dims = <cnp.npy_intp*>malloc(sizeof(cnp.npy_intp) * (slot.ndim if slot.ndim else 1))
            if slot.dims == NULL:
                raise MemoryError()
            memcpy(slot.dims, dims, sizeof(cnp.npy_intp) * slot.ndim)

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.slots != NULL:
            self.release()
            for i in range(self.count):
                free(self.slots[i].dims)
            free(self.slots)

    @property
    def nbytes(self):
        """Bytes of all arrays together."""
        cdef Py_ssize_t i
        return sum([self.slots[i].nbytes for i in range(self.count)])

    cdef bint hold(self, arrays, dict held) except -1:
        """Takes `arrays`, and where a name is not among them what is in `held`; the frame's own until `release`.

        False, and nothing is held, when they do not fit: a name, dtype or shape differs, there is one too many, or one
        is not C-contiguous and aligned.
        """
        cdef Py_ssize_t i, taken = 0
        cdef Slot* slot
        cdef PyObject* found
        if not PyDict_CheckExact(arrays) or PyDict_Size(arrays) > self.count:
            return False
        for i in range(self.count):
            slot = &self.slots[i]
            found = PyDict_GetItemWithError(arrays, <object>slot.name)
            if found != NULL:
                taken += 1
            elif held is not None:
                found = PyDict_GetItemWithError(held, <object>slot.name)
            if found == NULL or not fits(slot, <object>found):
                self.release()
                return False
            Py_INCREF(<object>found)
            slot.array = found
        if taken != PyDict_Size(arrays):
            self.release()
            return False
        for i in range(self.count):
            slot = &self.slots[i]
            slot.address = cnp.PyArray_DATA(<cnp.ndarray>slot.array)
            if self.stages[i] is not None:
                memcpy(cnp.PyArray_DATA(<cnp.ndarray>self.stages[i]), slot.address, slot.nbytes)
                self.stager.count_staged(slot.nbytes)
                slot.address = cnp.PyArray_DATA(<cnp.ndarray>self.stages[i])
        return True

    cdef void release(self) noexcept:
        """The arrays of the last run are the frame's no longer."""
        cdef Py_ssize_t i
        cdef PyObject* array
        for i in range(self.count):
            array = self.slots[i].array
            self.slots[i].array = NULL
            Py_XDECREF(array)

    cdef dict make(self, BufferPool pool, int which, dict given, dict apart):
        """New arrays on leased blocks, those that a binding is bound to where they are idle.

        Arrays in `given` take the place of new ones; so do those in `apart`, which are left out of the result.
        """
        cdef Py_ssize_t i
        cdef Slot* slot
        cdef PyObject* found
        cdef cnp.ndarray array
        cdef dict arrays = {}
        for i in range(self.count):
            slot = &self.slots[i]
            found = PyDict_GetItemWithError(apart, <object>slot.name) if apart is not None else NULL
            if found != NULL:
                slot.address = cnp.PyArray_DATA(<cnp.ndarray>found)
                continue
            found = PyDict_GetItemWithError(given, <object>slot.name) if given is not None else NULL
            if found != NULL:
                array = <cnp.ndarray>found
            else:
                array = leased_array(pool, <cnp.dtype>slot.dtype, slot.ndim, slot.dims, slot.nbytes, slot.bound[which])
            slot.address = cnp.PyArray_DATA(array)
            arrays[<object>slot.name] = array
        return arrays

    cdef bint is_bound(self, int which) noexcept:
        """Whether a binding is bound to where this run reads or writes."""
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.slots[i].bound[which] != self.slots[i].address:
                return False
        return True

    cdef size_t rebind(self, int which) except? 0:
        """Binds what lies elsewhere than before. Returns how many that were."""
        cdef Py_ssize_t i
        cdef size_t count = 0
        for i in range(self.count):
            if self.slots[i].bound[which] != self.slots[i].address:
                self.binds[which](self.names[i], self.value_at(i))
                self.slots[i].bound[which] = self.slots[i].address
                count += 1
        return count

    cdef object value_at(self, Py_ssize_t i):
        cdef Slot* slot = &self.slots[i]
        cdef int k
        for k in range(PLACES):
            if slot.places[k] == slot.address:
                slot.strange = 0
                return self.values[i * PLACES + k]
        value = self.value_of(i, array_at(<cnp.dtype>slot.dtype, slot.ndim, slot.dims, slot.address))
        k = slot.next_place
        slot.next_place = (k + 1) % PLACES
        slot.places[k] = slot.address
        self.values[i * PLACES + k] = value
        slot.strange = min(slot.strange + 1, STRANGE + 1)
        if slot.strange == STRANGE and self.stager is not None and 0 < slot.nbytes <= STAGED:
            self.stages[i] = array_at(<cnp.dtype>slot.dtype, slot.ndim, slot.dims, NULL)
        return value

    cdef void forget(self, int which) noexcept:
        """A binding counts as bound to nothing any more."""
        cdef Py_ssize_t i
        for i in range(self.count):
            self.slots[i].bound[which] = NULL


cdef bint fits(Slot* slot, object found) except -1:
    """Whether an array can be bound in a slot as it is."""
    cdef cnp.ndarray array
    cdef int k
    if not cnp.PyArray_CheckExact(found):
        return False
    array = <cnp.ndarray>found
    if cnp.PyArray_NDIM(array) != slot.ndim:
        return False
    for k in range(slot.ndim):
        if cnp.PyArray_DIMS(array)[k] != slot.dims[k]:
            return False
    if not cnp.PyArray_IS_C_CONTIGUOUS(array) or not cnp.PyArray_ISALIGNED(array):
        return False
    # Equal dtypes are mostly one object; those of unpickled arrays and of C's twin types are not.
    return (<PyObject*>cnp.PyArray_DESCR(array) == slot.dtype
            or cnp.PyArray_EquivTypes(<cnp.dtype><PyObject*>cnp.PyArray_DESCR(array), <cnp.dtype>slot.dtype))


@cython.final
cdef class BoundRun:
    """A run at fixed input and output shapes, bound once and used again.

    Inputs are bound where they lie, outputs to blocks of the pool. What lies where it lay before is not bound anew: in a
    steady state a run costs no binding at all. There are two bindings, used in turn when inputs move, and each asks for
    the blocks that it wrote to before: so a state that comes back as the next run's input, its two buffers swapping
    roles, is a steady state too.

    Ownership: the feeds are held while it runs; result arrays carry their leases away. Never used by two threads at
    once: whoever takes a bound run from the model's idle ones has it alone.

    Parameters
    ----------
    inputs, outputs : Frame
    pool : BufferPool
        Where results live.
    start : callable
        Runs what is bound: called with a binding and the options of a run.
    bindings : tuple of two objects
        The engine's, which the frames bind to.
    failure : callable
        The exception to raise for one of the engine's.
    count : callable
        Called after each run.

    Attributes
    ----------
    bound : int
        How often an array was bound, so far.
    """

    cdef readonly Frame inputs
    cdef readonly Frame outputs
    cdef readonly size_t bound
    cdef BufferPool pool
    cdef object start
    cdef tuple bindings
    cdef object failure
    cdef object count
    cdef int last           # the binding used last

    def __init__(self, Frame inputs, Frame outputs, BufferPool pool, start, tuple bindings, failure, count):
        self.inputs = inputs
        self.outputs = outputs
        self.pool = pool
        self.start = start
        self.bindings = bindings
        self.failure = failure
        self.count = count

    def run(self, feeds, options=None, dict given=None, *, dict held=None, dict apart=None):
        """Runs on feeds that fit as they are.

        Parameters
        ----------
        feeds : dict
            Arrays by input name.
        options : object, optional
            The engine's, for this run.
        given : dict, optional
            Arrays of the caller's to write outputs to; checked by the caller.
        held, apart : dict, optional
            A stream's state: inputs that are not among the feeds, and places for outputs that are no results.

        Returns
        -------
        dict of str to ndarray, or None
            None when the feeds do not fit, and nothing was run.
        """
        if not self.inputs.hold(feeds, held):
            return None
        try:
            return self.results(options, given, apart)
        finally:
            self.inputs.release()

    cdef dict results(self, options, dict given, dict apart):
        cdef dict arrays
        cdef int which = self.last
        if not self.inputs.is_bound(which):
            which = (which + 1) % BINDINGS
        self.last = which
        try:
            self.bound += self.inputs.rebind(which)
            arrays = self.outputs.make(self.pool, which, given, apart)
            self.bound += self.outputs.rebind(which)
        except BaseException:
            self.forget(which)
            raise
        try:
            self.start(self.bindings[which], options)
        except Exception as error:
            self.forget(which)
            raise self.failure(error) from error
        self.count()
        return arrays

    cdef void forget(self, int which) noexcept:
        self.inputs.forget(which)
        self.outputs.forget(which)
