/* The sums of QConv1d become floats, go the way of every convolution, and become bytes where bytes are asked for. */
#ifndef OMNI_BYTE_FINISH_H
#define OMNI_BYTE_FINISH_H

#include "inner_finish.h"
#include "quantized.h"

static ALWAYS_INLINE TARGET void finish_sums(const Job *job, float *results, size_t at, size_t column, size_t count)
{
    const Bytes *bytes = job->bytes;
    const int32_t *offset = bytes->offset + column;
    const float *multiplier = bytes->multiplier + column;
    const int32_t MAY_ALIAS *sums = (const int32_t MAY_ALIAS *)results;
    INDEPENDENT
    for (size_t i = 0; i < count; i++) {
        results[i] = (float)(int32_t)((uint32_t)sums[i] + (uint32_t)offset[i]) * multiplier[i];
    }
    const float *y = finish_run(job, results, at, column, count);
    if (bytes->y != NULL) {
        uint8_t *to = bytes->y + at;
        const float inverse_scale = bytes->inverse_scale;
        const int32_t zero_point = bytes->zero_point;
        INDEPENDENT
        for (size_t i = 0; i < count; i++) {
            to[i] = quantize(y[i], inverse_scale, zero_point, 0);
        }
    }
}

/* Rows whose values stand repeated are one run, in Z as in Y: a loop over few columns is all beginning and end. */
static TARGET void finish(const Job *job, const Finish *finish)
{
    const int whole = finish->z_row == job->out_channels && finish->count == job->out_channels;
    const size_t rows = whole ? job->bytes->rows : 1;
    for (size_t row = 0; row < finish->tiles; row += rows) {
        const size_t count = finish->count * smaller(rows, finish->tiles - row);
        const size_t at = (finish->first + row) * job->out_channels + finish->column;
        for (size_t done = 0; done < count; done += RUN_SIZE) {
            finish_sums(job, finish->z + row * finish->z_row + done, at + done, finish->column + done,
                        smaller(RUN_SIZE, count - done));
        }
    }
}

#endif
