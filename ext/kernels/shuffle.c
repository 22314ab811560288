/* The checks of a pixel shuffle's input. */
#include "shuffle.h"

OrtStatus *read_shuffle(const Kernel *kernel, const OrtKernelContext *context, Tensor *x, Shuffle *shuffle,
                        int64_t *dims)
{
    Signal signal;
    TRY(read_signal(kernel, context, x, &signal));
    const size_t stride = (size_t)kernel->stride;
    const size_t trim = (size_t)(kernel->trim_begin + kernel->trim_end);
    if (signal.channels % stride != 0) {
        return fail("Expected a multiple of %zu channels, the stride, got %zu - at omni::%s, input X", stride,
                    signal.channels, kernel->operator->name);
    }
    if (signal.time * stride < trim) {
        return fail("Expected at least %zu samples to trim, got %zu - at omni::%s, input X", trim,
                    signal.time * stride, kernel->operator->name);
    }
    shuffle->stride = stride;
    shuffle->trim_begin = (size_t)kernel->trim_begin;
    shuffle->columns = signal.time;
    shuffle->channels_last = (int)kernel->channels_last;
    shuffle->signal = (Signal){signal.batch, signal.channels / stride, signal.time * stride - trim};
    dims[0] = x->dims[0];
    dims[kernel->channels_last ? 2 : 1] = (int64_t)shuffle->signal.channels;
    dims[kernel->channels_last ? 1 : 2] = (int64_t)shuffle->signal.time;
    return NULL;
}
