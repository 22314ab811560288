"""Aligned, reusable memory, and the addresses that a bound run stands on.

`BufferPool` owns blocks, `Lease` is the right to one block while something looks at it, `Frame` remembers which
arrays a run is bound to. Nothing here knows the inference engine.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItemWithError, PyDict_Size
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

cnp.import_array()

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <stdlib.h>
    #if defined(_WIN32)
      #include <malloc.h>
      static void *omni_take(size_t size, size_t alignment) { return _aligned_malloc(size, alignment); }
      static void omni_free(void *data, size_t size) { (void)size; _aligned_free(data); }
    #else
      #include <sys/mman.h>
      #define OMNI_HUGE ((size_t)2 << 20)
      /* Large blocks come straight from the kernel, so that giving one back lowers the resident set at once. */
      static void *omni_take(size_t size, size_t alignment) {
          void *data = NULL;
          if (size < OMNI_HUGE)
              return posix_memalign(&data, alignment, size) ? NULL : data;
          size_t slack = alignment > OMNI_HUGE ? alignment : OMNI_HUGE;
          if (size > SIZE_MAX - slack) return NULL;
          char *raw = (char *)mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          if (raw == (char *)MAP_FAILED) return NULL;
          char *start = (char *)(((uintptr_t)raw + slack - 1) & ~(uintptr_t)(slack - 1));
          if (start > raw) munmap(raw, (size_t)(start - raw));
          char *end = start + size, *raw_end = raw + size + slack;
          if (raw_end > end) munmap(end, (size_t)(raw_end - end));
      #ifdef MADV_HUGEPAGE
          madvise(start, size, MADV_HUGEPAGE);
      #endif
          return start;
      }
      static void omni_free(void *data, size_t size) {
          if (size < OMNI_HUGE) free(data); else munmap(data, size);
      }
    #endif
    static int omni_log2(size_t n) { int k = 0; while (n >>= 1) k++; return k; }
    """
    void* omni_take(size_t size, size_t alignment) nogil
    void omni_free(void* data, size_t size) nogil
    int omni_log2(size_t n) nogil

cdef enum:
    PAGE = 4096
    STAGED = 16 << 10   # copying this much costs less than binding another address
    LARGE = 2 << 20     # from here a block is mapped on its own
    CLASSES = 96        # four size classes to each doubling below LARGE

cdef struct Block:
    char* data
    size_t capacity
    Block* next


cdef inline size_t rounded(size_t size, size_t step) noexcept nogil:
    return (size + step - 1) & ~(step - 1)


cdef inline size_t capacity_for(size_t size) noexcept nogil:
    """What a request takes: whole pages when large, else at most a quarter more, in steps of 64 bytes."""
    if size >= LARGE:
        return rounded(size, PAGE)
    if size <= 256:
        return rounded(size if size else 1, 64)
    return rounded(size, (<size_t>1) << (omni_log2(size - 1) - 2))


cdef inline int class_of(size_t capacity) noexcept nogil:
    """Index of a small capacity among the size classes; the inverse of `capacity_for`'s rounding."""
    cdef int power
    if capacity <= 256:
        return <int>(capacity >> 6) - 1
    power = omni_log2(capacity - 1)
    return 4 + (power - 8) * 4 + <int>((capacity - 1) >> (power - 2)) - 4


@cython.final
cdef class BufferPool:
    """Aligned blocks of memory that are used again.

    Ownership: the pool frees blocks, and only idle ones; a block in use belongs to its `Lease`, which holds the pool
    alive. There is nothing to close: `trim` gives idle memory back, the last reference to the pool frees the rest.

    Small blocks come in size classes, at most a quarter larger than asked. A block of 2 MiB or more is mapped on its
    own, in whole pages, with huge pages asked for; before another is mapped, idle large blocks that did not fit go
    back to the system, so that memory never exceeds what is held plus what one run needs.

    Parameters
    ----------
    alignment : int
        Bytes; a power of two, at least 64 and at most 2 MiB.
    idle_limit : int
        Bytes that may lie idle; beyond it a returned block is freed.
    """

    cdef cython.pymutex lock        # guards the fields below; no Python object is made or dropped under it
    cdef Block* small[CLASSES]
    cdef Block* large
    cdef size_t in_use_bytes, idle_bytes, peak_bytes
    cdef size_t in_use_blocks, taken, reused, staged
    cdef readonly size_t alignment
    cdef readonly size_t idle_limit

    def __cinit__(self, alignment=64, idle_limit=256 << 20):
        if alignment < 64 or alignment > LARGE or alignment & (alignment - 1):
            raise ValueError(f"Expected a power of two from 64 to 2097152, got {alignment} - at alignment")
        if idle_limit < 0:
            raise ValueError(f"Expected bytes, 0 or more, got {idle_limit} - at idle_limit")
        self.alignment = alignment
        self.idle_limit = idle_limit

    def __dealloc__(self):
        free_chain(self.take_idle())

    def lease(self, size_t nbytes):
        """A `Lease` on a block of at least `nbytes` bytes. `MemoryError` when there is none to be had."""
        return self.new_lease(nbytes)

    def array(self, dtype, shape):
        """An uninitialised C-contiguous array on a leased block; the block returns when the last view of it is gone."""
        return Frame(("",), (dtype,), (shape,)).make(self)[""]

    def trim(self):
        """Frees idle blocks. Returns the bytes given back."""
        cdef size_t before = self.idle_bytes
        free_chain(self.take_idle())
        return before

    def stats(self):
        """Bytes in use, idle, at peak (of both together) and staged by frames, blocks in use and how they came to be."""
        with self.lock:
            in_use, idle, peak = self.in_use_bytes, self.idle_bytes, self.peak_bytes
            blocks, taken, reused, staged = self.in_use_blocks, self.taken, self.reused, self.staged
        return {"in_use_bytes": in_use, "idle_bytes": idle, "peak_bytes": peak, "in_use_blocks": blocks,
                "allocations": taken, "reuses": reused, "staged_bytes": staged}

    cdef void count_staged(self, size_t nbytes) noexcept:
        with self.lock:
            self.staged += nbytes

    cdef Lease new_lease(self, size_t nbytes):
        cdef Lease lease = Lease.__new__(Lease)
        lease.block = self.acquire(nbytes)
        lease.pool = self
        lease.nbytes = nbytes
        return lease

    cdef Block* acquire(self, size_t nbytes) except NULL:
        cdef size_t capacity = capacity_for(nbytes)
        cdef Block* block
        cdef Block* surplus = NULL
        if capacity < nbytes:
            raise MemoryError(f"Expected a size that fits the address space, got {nbytes} bytes - at BufferPool")
        with self.lock:
            block = self.pop_idle(capacity)
            if block == NULL and capacity >= LARGE:
                surplus, self.large = self.large, NULL
                self.idle_bytes -= chain_bytes(surplus)
        if block == NULL:
            with nogil:
                free_chain(surplus)
                block = new_block(capacity, self.alignment)
            if block == NULL:
                raise MemoryError(f"Expected {nbytes} bytes of memory, got none from the system - at BufferPool")
            with self.lock:
                self.taken += 1
                self.count_taken(block)
        return block

    cdef Block* pop_idle(self, size_t capacity) noexcept:
        """Under the lock: an idle block that fits, counted as taken, or NULL."""
        cdef Block** link
        cdef Block** best = NULL
        cdef Block* block
        if capacity < LARGE:
            link = &self.small[class_of(capacity)]
            best = link if link[0] != NULL else NULL
        else:
            link = &self.large
            while link[0] != NULL:
                if capacity <= link[0].capacity <= capacity + (capacity >> 4):
                    if best == NULL or link[0].capacity < best[0].capacity:
                        best = link
                link = &link[0].next
        if best == NULL:
            return NULL
        block = best[0]
        best[0] = block.next
        self.idle_bytes -= block.capacity
        self.reused += 1
        self.count_taken(block)
        return block

    cdef void count_taken(self, Block* block) noexcept:
        self.in_use_bytes += block.capacity
        self.in_use_blocks += 1
        if self.in_use_bytes + self.idle_bytes > self.peak_bytes:
            self.peak_bytes = self.in_use_bytes + self.idle_bytes

    cdef void release(self, Block* block) noexcept:
        cdef Block** head = &self.large if block.capacity >= LARGE else &self.small[class_of(block.capacity)]
        with self.lock:
            self.in_use_bytes -= block.capacity
            self.in_use_blocks -= 1
            if self.idle_bytes + block.capacity <= self.idle_limit:
                self.idle_bytes += block.capacity
                block.next = head[0]
                head[0] = block
                block = NULL
        if block != NULL:
            block.next = NULL
            free_chain(block)

    cdef Block* take_idle(self) noexcept:
        cdef Block* chain = NULL
        cdef Block* block
        cdef int k
        with self.lock:
            for k in range(CLASSES + 1):
                while (self.large if k == CLASSES else self.small[k]) != NULL:
                    if k == CLASSES:
                        block = self.large
                        self.large = block.next
                    else:
                        block = self.small[k]
                        self.small[k] = block.next
                    block.next = chain
                    chain = block
            self.idle_bytes = 0
        return chain


cdef Block* new_block(size_t capacity, size_t alignment) noexcept nogil:
    cdef Block* block = <Block*>malloc(sizeof(Block))
    if block == NULL:
        return NULL
    block.data = <char*>omni_take(capacity, alignment)
    block.capacity = capacity
    block.next = NULL
    if block.data == NULL:
        free(block)
        return NULL
    return block


cdef void free_chain(Block* chain) noexcept nogil:
    cdef Block* block
    while chain != NULL:
        block, chain = chain, chain.next
        omni_free(block.data, block.capacity)
        free(block)


cdef size_t chain_bytes(Block* chain) noexcept nogil:
    cdef size_t total = 0
    while chain != NULL:
        total += chain.capacity
        chain = chain.next
    return total


@cython.final
@cython.no_gc       # holds only its pool, which holds no lease: no cycle can pass through here
@cython.freelist(32)
cdef class Lease:
    """The right to one block while anything looks at it.

    Ownership: the lease holds the block and keeps its pool alive; memoryviews and arrays over it hold the lease. The
    block returns to the pool when the lease is collected, so never while a view lives. Made by `BufferPool.lease`.
    """

    cdef BufferPool pool
    cdef Block* block
    cdef readonly size_t nbytes
    cdef readonly bint frozen

    def __dealloc__(self):
        if self.block != NULL:
            self.pool.release(self.block)

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.block == NULL:
            raise BufferError("Expected a lease made by a BufferPool, got an empty one - at Lease")
        PyBuffer_FillInfo(view, self, self.block.data, <Py_ssize_t>self.nbytes, self.frozen, flags)

    @property
    def address(self):
        """Where the block starts; 0 for a lease that no pool made."""
        return <uintptr_t>self.block.data if self.block != NULL else 0

    def freeze(self):
        """From now on only read-only views are handed out; numpy then refuses to make an array over it writable."""
        self.frozen = True


cdef struct Slot:
    PyObject* name          # borrowed from Frame.names
    PyObject* dtype         # borrowed from Frame.dtypes
    int ndim
    bint moved
    cnp.npy_intp* dims
    size_t nbytes
    void* address           # what the run is bound to; NULL when unbound
    void* stage             # where arrays are copied to before a run; NULL when they are bound where they lie


cdef extern from "numpy/arrayobject.h":
    cnp.ndarray PyArray_NewFromDescr(PyTypeObject* subtype, cnp.dtype descr, int nd, const cnp.npy_intp* dims,
                                     const cnp.npy_intp* strides, void* data, int flags, PyObject* obj)
    int PyArray_SetBaseObject(cnp.ndarray array, object base) except -1


@cython.final
cdef class Frame:
    """Names, dtypes and shapes of one side of a bound run, and the addresses it is bound to now.

    Ownership: addresses only; whoever runs holds the arrays for as long as the run lasts. Not shared between
    threads: each bound run has its own frames.

    Parameters
    ----------
    names : tuple of str
    dtypes : tuple of dtype-like
    shapes : tuple of tuple of int
    """

    cdef readonly tuple names
    cdef readonly tuple dtypes
    cdef readonly tuple shapes
    cdef Slot* slots
    cdef Py_ssize_t count
    cdef BufferPool stager      # counts what is staged; None while nothing is

    def __cinit__(self, names, dtypes, shapes):
        cdef Py_ssize_t i, k
        cdef Slot* slot
        cdef size_t length
        self.names = tuple(names)
        self.dtypes = tuple(cnp.dtype(dtype) for dtype in dtypes)
        self.shapes = tuple(tuple(int(size) for size in shape) for shape in shapes)
        self.count = len(self.names)
        if not (len(self.dtypes) == len(self.shapes) == self.count):
            raise ValueError("Expected as many dtypes and shapes as names - at Frame")
        self.slots = <Slot*>calloc(self.count if self.count else 1, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError()
        for i in range(self.count):
            if self.dtypes[i].hasobject:
                raise ValueError(f"Expected a dtype of plain bytes, got {self.dtypes[i]} - at {self.names[i]!r}")
            slot = &self.slots[i]
            slot.name = <PyObject*>self.names[i]
            slot.dtype = <PyObject*>self.dtypes[i]
            slot.ndim = len(self.shapes[i])
            slot.dims = <cnp.npy_intp*>malloc(sizeof(cnp.npy_intp) * (slot.ndim if slot.ndim else 1))
            if slot.dims == NULL:
                raise MemoryError()
            length = self.dtypes[i].itemsize
            for k in range(slot.ndim):
                if self.shapes[i][k] < 0:
                    raise ValueError(f"Expected sizes of 0 or more, got {self.shapes[i]} - at {self.names[i]!r}")
                slot.dims[k] = self.shapes[i][k]
                if slot.dims[k] and length > (<size_t>-1) // 2 // <size_t>slot.dims[k]:
                    raise MemoryError(f"Expected a size that fits the address space, got {self.shapes[i]}"
                                      f" - at {self.names[i]!r}")
                length *= <size_t>slot.dims[k]
            slot.nbytes = length

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.slots != NULL:
            for i in range(self.count):
                free(self.slots[i].dims)
                if self.slots[i].stage != NULL:
                    omni_free(self.slots[i].stage, self.slots[i].nbytes)
            free(self.slots)

    @property
    def nbytes(self):
        """Bytes of all arrays together."""
        cdef Py_ssize_t i
        return sum([self.slots[i].nbytes for i in range(self.count)])

    def match(self, arrays, bint writable=False):
        """Holds `arrays` against the frame.

        Returns
        -------
        int
            -1 when they do not fit: a name, dtype or shape differs, or one is not C-contiguous and aligned (or not
            writable where that is asked). Else how many lie elsewhere than where the run is bound; see `moved`.
        """
        cdef Py_ssize_t i
        cdef Slot* slot
        cdef PyObject* found
        cdef cnp.ndarray array
        cdef int k, moved = 0
        if not PyDict_CheckExact(arrays) or PyDict_Size(arrays) != self.count:
            return -1
        for i in range(self.count):
            slot = &self.slots[i]
            found = PyDict_GetItemWithError(arrays, <object>slot.name)
            if found == NULL or not cnp.PyArray_CheckExact(<object>found):
                return -1
            array = <cnp.ndarray>found
            if cnp.PyArray_NDIM(array) != slot.ndim:
                return -1
            # Equal dtypes are mostly one object; those of unpickled arrays and of C's twin types are not.
            if <PyObject*>cnp.PyArray_DESCR(array) != slot.dtype:
                if not cnp.PyArray_EquivTypes(<cnp.dtype><PyObject*>cnp.PyArray_DESCR(array), <cnp.dtype>slot.dtype):
                    return -1
            if not cnp.PyArray_IS_C_CONTIGUOUS(array) or not cnp.PyArray_ISALIGNED(array):
                return -1
            if writable and not cnp.PyArray_ISWRITEABLE(array):
                return -1
            for k in range(slot.ndim):
                if cnp.PyArray_DIMS(array)[k] != slot.dims[k]:
                    return -1
        for i in range(self.count):
            slot = &self.slots[i]
            array = <cnp.ndarray>PyDict_GetItemWithError(arrays, <object>slot.name)
            if slot.stage != NULL:
                memcpy(slot.stage, cnp.PyArray_DATA(array), slot.nbytes)
                self.stager.count_staged(slot.nbytes)
                moved += place(slot, slot.stage)
            else:
                moved += place(slot, cnp.PyArray_DATA(array))
        return moved

    def stage(self, Py_ssize_t index, BufferPool pool):
        """From the next `match` on, arrays of this name are copied to memory that stays bound, if they are small.

        The pool counts the bytes copied.

        Returns
        -------
        bool
            False for an array so large that binding it anew costs less.
        """
        if not 0 <= index < self.count:
            raise IndexError(index)
        cdef Slot* slot = &self.slots[index]
        if slot.stage == NULL and 0 < slot.nbytes <= STAGED:
            self.stager = pool
            slot.stage = omni_take(slot.nbytes, 64)
        return slot.stage != NULL

    def make(self, BufferPool pool, dict given=None):
        """New arrays of the frame's shapes on leased blocks, as a `dict`; `moved` tells which lie elsewhere than before.

        Arrays in `given` take the place of new ones; that they fit is the caller's word.
        """
        cdef Py_ssize_t i
        cdef Slot* slot
        cdef Lease lease
        cdef cnp.ndarray array
        cdef cnp.dtype dtype
        cdef dict arrays = {}
        for i in range(self.count):
            slot = &self.slots[i]
            if given is not None and <object>slot.name in given:
                array = given[<object>slot.name]
                place(slot, cnp.PyArray_DATA(array))
                arrays[<object>slot.name] = array
                continue
            lease = pool.new_lease(slot.nbytes)
            dtype = <cnp.dtype>slot.dtype
            Py_INCREF(dtype)                        # PyArray_NewFromDescr takes this reference
            array = PyArray_NewFromDescr(<PyTypeObject*>cnp.ndarray, dtype, slot.ndim, slot.dims, NULL,
                                         lease.block.data, cnp.NPY_ARRAY_CARRAY, NULL)
            place(slot, lease.block.data)
            Py_INCREF(lease)                        # and PyArray_SetBaseObject this one
            PyArray_SetBaseObject(array, lease)
            arrays[<object>slot.name] = array
        return arrays

    def moved(self):
        """(index, address) of what lies elsewhere than where the run is bound; it counts as bound from here on."""
        cdef Py_ssize_t i
        cdef list found = []
        for i in range(self.count):
            if self.slots[i].moved:
                self.slots[i].moved = False
                found.append((i, <uintptr_t>self.slots[i].address))
        return found

    def at(self, Py_ssize_t index):
        """An array where the run is bound. It owns nothing and holds nothing: it carries an address to a binding."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        cdef Slot* slot = &self.slots[index]
        cdef cnp.dtype dtype = <cnp.dtype>slot.dtype
        if slot.address == NULL:
            raise ValueError(f"Expected a bound array, got none - at {self.names[index]!r}")
        Py_INCREF(dtype)
        return PyArray_NewFromDescr(<PyTypeObject*>cnp.ndarray, dtype, slot.ndim, slot.dims, NULL, slot.address,
                                    cnp.NPY_ARRAY_CARRAY, NULL)

    def forget(self):
        """Nothing counts as bound any more."""
        cdef Py_ssize_t i
        for i in range(self.count):
            self.slots[i].address = NULL
            self.slots[i].moved = False


cdef inline int place(Slot* slot, void* address) noexcept:
    if slot.address != address:
        slot.address = address
        slot.moved = True
    return slot.moved
