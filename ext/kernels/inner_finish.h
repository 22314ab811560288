/* What follows the sums of a convolution: bias, residual, Snake. */
#ifndef OMNI_INNER_FINISH_H
#define OMNI_INNER_FINISH_H

#include "conv1d_inner.h"
#include "snake_math.h"

#include <string.h>

/* Adds bias and residual to a run of results, writes it and its Snake where they go, and returns where Y is. Y and sum
 * may stand where the residual stood: each element of it is read before it is overwritten. Where there is no room for
 * them they take the results'. */
static ALWAYS_INLINE TARGET const float *finish_run(const Job *job, float *results, size_t at, size_t column,
                                                    size_t count)
{
    static const float none[RUN_SIZE] = {0};
    const float *bias = job->bias == NULL ? none : job->bias + column;
    float *y = job->y != NULL ? job->y + at : results;
    float *sum = job->sum != NULL ? job->sum + at : job->alpha != NULL ? results : y;
    if (job->residual != NULL) {
        const float *residual = job->residual + at;
        INDEPENDENT
        for (size_t i = 0; i < count; i++) {
            sum[i] = results[i] + bias[i] + residual[i];
        }
    } else if (job->bias != NULL || sum != results) {
        INDEPENDENT
        for (size_t i = 0; i < count; i++) {
            sum[i] = results[i] + bias[i];
        }
    }
    if (job->alpha != NULL) {
        const PerChannel snake = {job->alpha + column, job->inv_beta + column, NULL};
        snake_run(sum, y, count, snake, 1, FUSED);
    } else if (y != sum) {
        memcpy(y, sum, count * sizeof sum[0]);
    }
    return y;
}

#endif
