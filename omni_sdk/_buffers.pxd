"""What the compiled parts share of `_buffers`."""

cimport cython
cimport numpy as cnp
from libc.stddef cimport size_t

cdef enum:
    CLASSES = 96        # size classes of a pool: four to each doubling below what is mapped on its own
    DIMENSIONS = 64     # of an array, at most; numpy's own bound

cdef struct Block:
    char* data
    size_t capacity
    Block* next

cdef class BufferPool:
    cdef cython.pymutex lock        # guards the fields below; no Python object is made or dropped under it
    cdef Block* small[CLASSES]
    cdef Block* large
    cdef size_t in_use_bytes, idle_bytes, peak_bytes
    cdef size_t in_use_blocks, taken, reused, staged
    cdef readonly size_t alignment
    cdef readonly size_t idle_limit

    cdef void count_staged(self, size_t nbytes) noexcept
    cdef Lease new_lease(self, size_t nbytes, void* preferred=*)
    cdef Block* acquire(self, size_t nbytes, void* preferred) except NULL
    cdef Block* pop_idle(self, size_t capacity, void* preferred) noexcept
    cdef void count_taken(self, Block* block) noexcept
    cdef void release(self, Block* block) noexcept
    cdef Block* take_idle(self) noexcept

cdef class Lease:
    cdef BufferPool pool
    cdef Block* block
    cdef readonly size_t nbytes
    cdef readonly bint frozen

cdef size_t measure(cnp.dtype dtype, tuple shape, cnp.npy_intp* dims, str where) except? 0
cdef cnp.ndarray leased_array(BufferPool pool, cnp.dtype dtype, int ndim, const cnp.npy_intp* dims, size_t nbytes,
                              void* preferred=*)
cdef cnp.ndarray array_at(cnp.dtype dtype, int ndim, const cnp.npy_intp* dims, void* address)
