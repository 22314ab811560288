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

/* The sums of some rows, side by side as Y has them; whole panels lie so already. */
static ALWAYS_INLINE TARGET float *rows_of(const Finish *finish, size_t row, size_t rows, float *memory)
{
    float *z = finish->z + row * finish->z_row;
    if (rows == 1 || finish->z_row == finish->count) {
        return z;
    }
    for (size_t i = 0; i < rows; i++) {
        memcpy(memory + i * finish->count, z + i * finish->z_row, finish->count * sizeof z[0]);
    }
    return memory;
}

/* Rows whose values stand repeated are one run: a loop over few columns is all beginning and end. */
static TARGET void finish(const Job *job, const Finish *finish)
{
    float memory[REPEATED];
    const size_t most = finish->count == job->out_channels ? job->bytes->rows : 1;
    for (size_t row = 0; row < finish->tiles; row += most) {
        const size_t rows = smaller(most, finish->tiles - row);
        const size_t count = finish->count * rows;
        const size_t at = (finish->first + row) * job->out_channels + finish->column;
        float *results = rows_of(finish, row, rows, memory);
        for (size_t done = 0; done < count; done += RUN_SIZE) {
            finish_sums(job, results + done, at + done, finish->column + done, smaller(RUN_SIZE, count - done));
        }
    }
}

#endif
