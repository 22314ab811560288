"""Aligned, reusable memory.

`BufferPool` owns blocks, `Lease` is the right to one block while something looks at it. Nothing here knows the
inference engine.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

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
    LARGE = 2 << 20     # from here a block is mapped on its own
    LOOKED_AT = 8       # small idle blocks among which the preferred one is looked for

cdef extern from "numpy/arrayobject.h":
    cnp.ndarray PyArray_NewFromDescr(PyTypeObject* subtype, cnp.dtype descr, int nd, const cnp.npy_intp* dims,
                                     const cnp.npy_intp* strides, void* data, int flags, PyObject* obj)
    int PyArray_SetBaseObject(cnp.ndarray array, object base) except -1


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
        cdef cnp.dtype kind = cnp.dtype(dtype)
        cdef tuple sizes = tuple(int(size) for size in shape)
        cdef cnp.npy_intp dims[DIMENSIONS]
        cdef size_t nbytes = measure(kind, sizes, dims, "array")
        return leased_array(self, kind, <int>len(sizes), dims, nbytes)

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

    cdef Lease new_lease(self, size_t nbytes, void* preferred=NULL):
        cdef Lease lease = Lease.__new__(Lease)
        lease.block = self.acquire(nbytes, preferred)
        lease.pool = self
        lease.nbytes = nbytes
        return lease

    cdef Block* acquire(self, size_t nbytes, void* preferred) except NULL:
        cdef size_t capacity = capacity_for(nbytes)
        cdef Block* block
        cdef Block* surplus = NULL
        if capacity < nbytes:
            raise MemoryError(f"Expected a size that fits the address space, got {nbytes} bytes - at BufferPool")
        with self.lock:
            block = self.pop_idle(capacity, preferred)
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

    cdef Block* pop_idle(self, size_t capacity, void* preferred) noexcept:
        """Under the lock: an idle block that fits, counted as taken, or NULL. The one at `preferred` where it is idle."""
        cdef Block** link
        cdef Block** best = NULL
        cdef Block* block
        cdef int looked = 0
        if capacity < LARGE:
            link = &self.small[class_of(capacity)]
            best = link if link[0] != NULL else NULL
            while preferred != NULL and link[0] != NULL and looked < LOOKED_AT:
                if link[0].data == preferred:
                    best = link
                    break
                link = &link[0].next
                looked += 1
        else:
            link = &self.large
            while link[0] != NULL:
                if capacity <= link[0].capacity <= capacity + (capacity >> 4):
                    if link[0].data == preferred:
                        best = link
                        break
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


cdef size_t measure(cnp.dtype dtype, tuple shape, cnp.npy_intp* dims, str where) except? 0:
    """Writes a shape's sizes to `dims`, which has room for `DIMENSIONS`. Returns the bytes of such an array."""
    cdef size_t nbytes = dtype.itemsize
    cdef int k
    if dtype.hasobject:
        raise ValueError(f"Expected a dtype of plain bytes, got {dtype} - at {where!r}")
    if len(shape) > DIMENSIONS:
        raise ValueError(f"Expected at most {DIMENSIONS} dimensions, got {len(shape)} - at {where!r}")
    for k in range(<int>len(shape)):
        if shape[k] < 0:
            raise ValueError(f"Expected sizes of 0 or more, got {shape} - at {where!r}")
        dims[k] = shape[k]
        if dims[k] and nbytes > (<size_t>-1) // 2 // <size_t>dims[k]:
            raise MemoryError(f"Expected a size that fits the address space, got {shape} - at {where!r}")
        nbytes *= <size_t>dims[k]
    return nbytes


cdef cnp.ndarray leased_array(BufferPool pool, cnp.dtype dtype, int ndim, const cnp.npy_intp* dims, size_t nbytes,
                              void* preferred=NULL):
    """A new array on a leased block, on the one at `preferred` where that is idle."""
    cdef Lease lease = pool.new_lease(nbytes, preferred)
    cdef cnp.ndarray array = array_at(dtype, ndim, dims, lease.block.data)
    Py_INCREF(lease)            # PyArray_SetBaseObject takes this reference
    PyArray_SetBaseObject(array, lease)
    return array


cdef cnp.ndarray array_at(cnp.dtype dtype, int ndim, const cnp.npy_intp* dims, void* address):
    """An array over memory at `address`, which it neither owns nor holds; where that is NULL, over memory of its own."""
    Py_INCREF(dtype)            # PyArray_NewFromDescr takes this reference
    return PyArray_NewFromDescr(<PyTypeObject*>cnp.ndarray, dtype, ndim, dims, NULL, address,
                                cnp.NPY_ARRAY_CARRAY, NULL)
