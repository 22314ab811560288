/* Pixel shuffle and trim: S * C channels of Q columns become C channels of S * Q samples, phase-major (channel
 * p * C + c holds phase p of channel c), less `trim_begin` samples at the start and `trim_end` at the end.
 *
 * Channels last, [batch, Q, S * C] already holds [batch, S * Q, C] in its memory: only the trim moves anything.
 */
#ifndef OMNI_SHUFFLE_H
#define OMNI_SHUFFLE_H

#include "operator.h"

typedef struct Shuffle {
    size_t stride;
    size_t trim_begin;
    size_t columns;
    int channels_last;
    Signal signal; /* of the output */
} Shuffle;

/* Reads the first input; `dims` are the output's. */
OrtStatus *read_shuffle(const Kernel *kernel, const OrtKernelContext *context, Tensor *x, Shuffle *shuffle,
                        int64_t *dims);

/* Where the output's element `at` lies in a channels-last input; so do those that follow it in the same batch. */
static ALWAYS_INLINE size_t shuffle_offset_last(const Shuffle *shuffle, size_t at)
{
    const size_t size = shuffle->signal.time * shuffle->signal.channels;
    const size_t whole = shuffle->columns * shuffle->stride * shuffle->signal.channels;
    return at / size * whole + shuffle->trim_begin * shuffle->signal.channels + at % size;
}

/* Copies `count` samples of one row from a channels-first input; the row's index counts all rows of the output. */
#define SHUFFLE_GATHER(name, type)                                                                                   \
    static ALWAYS_INLINE void name(const Shuffle *shuffle, const type *x, size_t row, size_t time, size_t count,     \
                                   type *samples)                                                                    \
    {                                                                                                                \
        const size_t channels = shuffle->signal.channels;                                                            \
        const size_t first = row / channels * channels * shuffle->stride + row % channels;                           \
        for (size_t i = 0; i < smaller(shuffle->stride, count); i++) {                                               \
            const size_t phase = (time + shuffle->trim_begin + i) % shuffle->stride;                                 \
            const size_t column = (time + shuffle->trim_begin + i) / shuffle->stride;                                \
            const type *from = x + (first + phase * channels) * shuffle->columns + column;                           \
            for (size_t j = i; j < count; j += shuffle->stride) {                                                    \
                samples[j] = *from++;                                                                                \
            }                                                                                                        \
        }                                                                                                            \
    }

#endif
