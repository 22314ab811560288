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

cdef struct Slot:
    PyObject* name          # borrowed from Frame.names
    PyObject* dtype         # borrowed from Frame.dtypes
    int ndim
    bint moved
    cnp.npy_intp* dims
    size_t nbytes
    void* address           # what the run is bound to; NULL when unbound
    PyObject* array         # owned while a run lasts: what lies there
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
    bind : callable, optional
        Binds a value to a name.
    value_of : callable, optional
        What the engine takes for the array at an index: called with the index and an array that owns nothing.
    stager : BufferPool, optional
        Given, small arrays that lie elsewhere every time are copied in the end to where one stays bound: the bytes cost
        less than the binding. The pool counts them.
    """

    cdef readonly tuple names
    cdef readonly tuple dtypes
    cdef readonly tuple shapes
    cdef object bind
    cdef object value_of
    cdef BufferPool stager
    cdef list values        # the engine's values, PLACES for each array
    cdef list stages        # arrays that stay bound, None for those bound where they lie
    cdef Slot* slots
    cdef Py_ssize_t count

    def __cinit__(self, names, dtypes, shapes, bind=None, value_of=None, BufferPool stager=None):
        cdef Py_ssize_t i
        cdef cnp.npy_intp dims[DIMENSIONS]
        cdef Slot* slot
        self.names = tuple(names)
        self.dtypes = tuple(cnp.dtype(dtype) for dtype in dtypes)
        self.shapes = tuple(tuple(int(size) for size in shape) for shape in shapes)
        self.bind = bind
        self.value_of = value_of
        self.stager = stager
        self.count = len(self.names)
        self.values = [None] * (self.count * PLACES)
        self.stages = [None] * self.count
        if not (len(self.dtypes) == len(self.shapes) == self.count):
            raise ValueError("Expected as many dtypes and shapes as names - at Frame")
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

    def match(self, arrays, held=None):
        """Holds `arrays` against the frame, and where a name is not among them, `held`.

        Returns
        -------
        int
            -1 when they do not fit: a name, dtype or shape differs, there is one too many, or one is not C-contiguous
            and aligned. Else how many lie elsewhere than where the run is bound.
        """
        cdef int moved = self.hold(arrays, held)
        self.release()
        return moved

    cdef int hold(self, arrays, held) except -2:
        """`match`, after which the frame holds the arrays until `release`, if they fit."""
        cdef Py_ssize_t i, taken = 0
        cdef Slot* slot
        cdef PyObject* found
        cdef int moved = 0
        if not PyDict_CheckExact(arrays) or PyDict_Size(arrays) > self.count:
            return -1
        for i in range(self.count):
            slot = &self.slots[i]
            found = PyDict_GetItemWithError(arrays, <object>slot.name)
            if found != NULL:
                taken += 1
            elif held is not None:
                found = PyDict_GetItemWithError(held, <object>slot.name)
            if found == NULL or not fits(slot, <object>found):
                self.release()
                return -1
            Py_INCREF(<object>found)
            slot.array = found
        if taken != PyDict_Size(arrays):
            self.release()
            return -1
        for i in range(self.count):
            moved += self.placed(i)
        return moved

    cdef int placed(self, Py_ssize_t i) except -1:
        """Whether the array held lies elsewhere than where the run is bound; a staged one is copied to where it does."""
        cdef Slot* slot = &self.slots[i]
        cdef void* address = cnp.PyArray_DATA(<cnp.ndarray>slot.array)
        if self.stages[i] is not None:
            memcpy(cnp.PyArray_DATA(<cnp.ndarray>self.stages[i]), address, slot.nbytes)
            self.stager.count_staged(slot.nbytes)
            address = cnp.PyArray_DATA(<cnp.ndarray>self.stages[i])
        place(slot, address)
        return slot.moved

    cdef void release(self) noexcept:
        """The arrays of the last run are the frame's no longer."""
        cdef Py_ssize_t i
        cdef PyObject* array
        for i in range(self.count):
            array = self.slots[i].array
            self.slots[i].array = NULL
            Py_XDECREF(array)

    def make(self, BufferPool pool, dict given=None, dict apart=None):
        """New arrays of the frame's shapes on leased blocks, as a `dict`.

        Arrays in `given` take the place of new ones; so do those in `apart`, which are left out of the result. That
        they fit is the caller's word.
        """
        cdef Py_ssize_t i
        cdef Slot* slot
        cdef PyObject* found
        cdef cnp.ndarray array
        cdef dict arrays = {}
        for i in range(self.count):
            slot = &self.slots[i]
            if apart is not None:
                found = PyDict_GetItemWithError(apart, <object>slot.name)
                if found != NULL:
                    place(slot, cnp.PyArray_DATA(<cnp.ndarray>found))
                    continue
            found = PyDict_GetItemWithError(given, <object>slot.name) if given is not None else NULL
            if found != NULL:
                array = <cnp.ndarray>found
            else:
                array = leased_array(pool, <cnp.dtype>slot.dtype, slot.ndim, slot.dims, slot.nbytes)
            place(slot, cnp.PyArray_DATA(array))
            arrays[<object>slot.name] = array
        return arrays

    cdef int bind_moved(self) except -1:
        """Binds what lies elsewhere than before. Returns how many that were."""
        cdef Py_ssize_t i
        cdef int bound = 0
        for i in range(self.count):
            if self.slots[i].moved:
                self.bind(self.names[i], self.value_at(i))
                self.slots[i].moved = False
                bound += 1
        return bound

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

    cdef void forget(self) noexcept:
        """Nothing counts as bound any more."""
        cdef Py_ssize_t i
        for i in range(self.count):
            self.slots[i].address = NULL
            self.slots[i].moved = False


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


cdef inline void place(Slot* slot, void* address) noexcept:
    if slot.address != address:
        slot.address = address
        slot.moved = True


@cython.final
cdef class BoundRun:
    """A run at fixed input and output shapes, bound once and used again.

    Inputs are bound where they lie, outputs to blocks of the pool. A side that lies where it lay at the last run is not
    bound anew: in a steady state a run costs no binding at all.

    Ownership: the feeds are held while it runs; result arrays carry their leases away. Never used by two threads at
    once: whoever takes a bound run from the model's idle ones has it alone.

    Parameters
    ----------
    inputs, outputs : Frame
    pool : BufferPool
        Where results live.
    start : callable
        Runs what is bound: called with `binding` and the options of a run.
    binding : object
        The engine's.
    failure : callable
        The exception to raise for one of the engine's.
    count : callable
        Called after each run.

    Attributes
    ----------
    bindings : int
        How often an array was bound, so far.
    """

    cdef readonly Frame inputs
    cdef readonly Frame outputs
    cdef readonly size_t bindings
    cdef BufferPool pool
    cdef object start
    cdef object binding
    cdef object failure
    cdef object count

    def __init__(self, Frame inputs, Frame outputs, BufferPool pool, start, binding, failure, count):
        self.inputs = inputs
        self.outputs = outputs
        self.pool = pool
        self.start = start
        self.binding = binding
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
        cdef int moved = self.inputs.hold(feeds, held)
        if moved < 0:
            return None
        try:
            return self.results(moved, options, given, apart)
        finally:
            self.inputs.release()

    cdef dict results(self, int moved, options, dict given, dict apart):
        cdef dict arrays
        try:
            if moved:
                self.bindings += self.inputs.bind_moved()
            arrays = self.outputs.make(self.pool, given, apart)
            self.bindings += self.outputs.bind_moved()
        except BaseException:
            self.forget()
            raise
        try:
            self.start(self.binding, options)
        except Exception as error:
            self.forget()
            raise self.failure(error) from error
        self.count()
        return arrays

    cdef void forget(self) noexcept:
        self.inputs.forget()
        self.outputs.forget()
