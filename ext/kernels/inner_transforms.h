/* Input and output transforms of Conv1d for one instruction set, over vectors of channels.
 *
 * The two rows of a pair of points a, -a share their even entries and, but for the sign, their odd ones; so the even
 * half and the odd half are summed once for both, and their sum and difference are the two results. The output
 * transform is the same turned round.
 */
#ifndef OMNI_INNER_TRANSFORMS_H
#define OMNI_INNER_TRANSFORMS_H

#include "inner_finish.h"
#include "winograd_tables.h"

#include <string.h>

static ALWAYS_INLINE TARGET Lanes weighted(const float *weights, const Lanes *values, const int count)
{
    Lanes sum = weights[0] * values[0];
    UNROLL
    for (int i = 1; i < count; i++) {
        sum += weights[i] * values[2 * i];
    }
    return sum;
}

/* One vector of channels of one tile. `points` is a constant where this is inlined. */
static ALWAYS_INLINE TARGET void transform_lanes(const float *const *rows, size_t channel, float *d, size_t plane,
                                                 const int points)
{
    const WinogradInput *table = &winograd_input[points];
    const int evens = (points + 1) / 2;
    const int odds = points / 2;
    const int pairs = (points - 1) / 2;
    Lanes values[MAX_POINTS];
    UNROLL
    for (int i = 0; i < points; i++) {
        values[i] = *(const Lanes *)(rows[i] + channel);
    }
    for (int pair = 0; pair < pairs; pair++, d += 2 * plane) {
        const Lanes even = weighted(table->even[pair], values, evens);
        const Lanes odd = weighted(table->odd[pair], values + 1, odds);
        *(Lanes *)d = even + odd;
        *(Lanes *)(d + plane) = even - odd;
    }
    if (points % 2 == 0) {
        *(Lanes *)d = weighted(table->zero, values, evens);
        d += plane;
    }
    *(Lanes *)d = weighted(table->infinity, values + (points % 2 == 0), points % 2 == 0 ? odds : evens);
}

static ALWAYS_INLINE TARGET void transform_body(const float *const *rows, size_t channels, float *d, size_t plane,
                                                const int points)
{
    size_t channel = 0;
    for (; channel + LANES <= channels; channel += LANES) {
        transform_lanes(rows, channel, d + channel, plane, points);
    }
    if (channel < channels) {
        float copies[MAX_POINTS][LANES] = {{0}};
        const float *ends[MAX_POINTS];
        for (int i = 0; i < points; i++) {
            memcpy(copies[i], rows[i] + channel, (channels - channel) * sizeof copies[0][0]);
            ends[i] = copies[i];
        }
        transform_lanes(ends, 0, d + channel, plane, points);
    }
}

#define TRANSFORM(points)                                                                                         \
    static NEVER_INLINE TARGET void transform_##points(const float *const *rows, size_t channels, float *d,      \
                                                       size_t plane)                                              \
    {                                                                                                             \
        transform_body(rows, channels, d, plane, points);                                                         \
    }

TRANSFORM(3)
TRANSFORM(4)
TRANSFORM(5)
TRANSFORM(6)
TRANSFORM(7)
TRANSFORM(8)
TRANSFORM(9)
TRANSFORM(10)
TRANSFORM(11)
TRANSFORM(12)
TRANSFORM(13)
TRANSFORM(14)
TRANSFORM(15)
TRANSFORM(16)

static void transform_input(const float *const *rows, size_t channels, size_t points, float *d, size_t plane)
{
    static void (*const each[MAX_POINTS + 1])(const float *const *, size_t, float *, size_t) = {
        NULL,         NULL,         NULL,         transform_3,  transform_4,  transform_5,
        transform_6,  transform_7,  transform_8,  transform_9,  transform_10, transform_11,
        transform_12, transform_13, transform_14, transform_15, transform_16,
    };
    each[points](rows, channels, d, plane);
}

/* One vector of output channels of one tile. */
static ALWAYS_INLINE TARGET void untransform_lanes(const float *z, size_t plane, float *row, size_t size,
                                                   size_t points, const int tile)
{
    const size_t pairs = (points - 1) / 2;
    const float(*powers)[MAX_TILE] = winograd_powers[points];
    Lanes sums[MAX_TILE];
    UNROLL
    for (int i = 0; i < tile; i++) {
        sums[i] = (Lanes){0};
    }
    for (size_t pair = 0; pair < pairs; pair++, z += 2 * plane) {
        const Lanes sum = *(const Lanes *)z + *(const Lanes *)(z + plane);
        const Lanes difference = *(const Lanes *)z - *(const Lanes *)(z + plane);
        UNROLL
        for (int i = 0; i < tile; i++) {
            sums[i] += powers[pair][i] * (i % 2 == 0 ? sum : difference);
        }
    }
    if (points % 2 == 0) {
        sums[0] += *(const Lanes *)z;
        z += plane;
    }
    sums[tile - 1] += *(const Lanes *)z;
    UNROLL
    for (int i = 0; i < tile; i++) {
        *(Lanes *)(row + (size_t)i * size) = sums[i];
    }
}

static ALWAYS_INLINE TARGET void finish_row(const Job *job, float *results, size_t at, size_t column, size_t count)
{
    for (size_t done = 0; done < count; done += RUN_SIZE) {
        finish_run(job, results + done, at + done, column + done, smaller(RUN_SIZE, count - done));
    }
}

static ALWAYS_INLINE TARGET void finish_tiles(const Job *job, const Finish *finish, const int tile)
{
    Place place = place_of(job, finish->first);
    for (size_t done = 0; done < finish->tiles; done++) {
        float *z = finish->z + done * finish->z_row;
        float *rows = tile == 1 ? z : finish->rows;
        if (tile > 1) {
            for (size_t column = 0; column < finish->count; column += LANES) {
                untransform_lanes(z + column, finish->z_point, rows + column, finish->z_row, job->points, tile);
            }
        }
        for (int i = 0; i < tile; i++) {
            const size_t time = place.time + (size_t)i * job->dilation;
            if (time < job->time_out) {
                const size_t at = (place.item * job->time_out + time) * job->out_channels + finish->column;
                finish_row(job, rows + (size_t)i * finish->z_row, at, finish->column, finish->count);
            }
        }
        place = next_place(job, place);
    }
}

static TARGET void finish(const Job *job, const Finish *finish)
{
    if (job->tile == 1) {
        finish_tiles(job, finish, 1);
    } else if (job->tile == 2) {
        finish_tiles(job, finish, 2);
    } else if (job->tile == 4) {
        finish_tiles(job, finish, 4);
    } else {
        finish_tiles(job, finish, 6);
    }
}

#endif
