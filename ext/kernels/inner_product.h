/* Products of rows with panels of weights, for one instruction set; the including file defines
 *   LANES   floats of a vector,
 *   ROWS    rows whose sums fit in registers beside a panel's weights: 1, 3, 6 or 12,
 *   PAIRED  whether they do for two panels too,
 *   TARGET  what makes the compiler use the instruction set.
 *
 * Weights lie as [panel][channel][16], so one pass streams them in order while it holds rows x 16 sums; rows are read
 * where they lie, one broadcast a channel. A stretch of `depth` channels of a panel stays in the first-level cache
 * while all rows pass over it.
 */
#ifndef OMNI_INNER_PRODUCT_H
#define OMNI_INNER_PRODUCT_H

#include "conv1d_inner.h"

#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
#define UNROLL _Pragma("GCC unroll 16")
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
typedef float Lanes; /* LANES is 1 */
#define UNROLL
#define PREFETCH(address) ((void)0)
#endif

enum { VECTORS = PANEL / LANES, MAX_AT_ONCE = 4, LEAST_TURNS = 4, MAX_SUMS = (ROWS < 2 ? 4 : 2 * ROWS) * VECTORS };

/* One pass: `count` rows by `at_once` panels; both are constants where this is inlined. */
static ALWAYS_INLINE TARGET void pass_body(const float *const *rows, size_t first, size_t depth, const float *weights,
                                           size_t panel, float *z, size_t z_row, int adds, const int count,
                                           const int at_once)
{
    Lanes sums[MAX_SUMS];
    const float *row[ROWS];
    UNROLL
    for (int i = 0; i < count * at_once * VECTORS; i++) {
        sums[i] = (Lanes){0};
    }
    UNROLL
    for (int r = 0; r < count; r++) {
        row[r] = rows[r] + first;
    }
    for (size_t k = 0; k < depth; k++) {
        Lanes weight[MAX_AT_ONCE * VECTORS];
        UNROLL
        for (int i = 0; i < at_once * VECTORS; i++) {
            const float *from = weights + (size_t)(i / VECTORS) * panel + k * PANEL;
            weight[i] = *(const Lanes *)(from + (size_t)(i % VECTORS) * LANES);
        }
        UNROLL
        for (int r = 0; r < count; r++) {
            const float value = row[r][k];
            UNROLL
            for (int i = 0; i < at_once * VECTORS; i++) {
                sums[r * at_once * VECTORS + i] += value * weight[i];
            }
        }
    }
    UNROLL
    for (int r = 0; r < count; r++) {
        UNROLL
        for (int i = 0; i < at_once * VECTORS; i++) {
            Lanes *to = (Lanes *)(z + (size_t)r * z_row + (size_t)i * LANES);
            if (adds) {
                *to += sums[r * at_once * VECTORS + i];
            } else {
                *to = sums[r * at_once * VECTORS + i];
            }
        }
    }
}

typedef void (*Pass)(const float *const *rows, size_t first, size_t depth, const float *weights, size_t panel, float *z,
                     size_t z_row, int adds);

#define PASS(count, at_once)                                                                                          \
    static TARGET void pass_##count##_##at_once(const float *const *rows, size_t first, size_t depth,                \
                                                const float *weights, size_t panel, float *z, size_t z_row, int adds) \
    {                                                                                                                 \
        pass_body(rows, first, depth, weights, panel, z, z_row, adds, count, at_once);                                \
    }

PASS(1, 1)
PASS(1, 4)
#if ROWS > 1
PASS(2, 1)
PASS(2, 2)
PASS(3, 1)
#endif
#if ROWS > 3
PASS(4, 1)
PASS(5, 1)
PASS(6, 1)
#endif
#if ROWS > 6
PASS(7, 1)
PASS(8, 1)
PASS(9, 1)
PASS(10, 1)
PASS(11, 1)
PASS(12, 1)
PASS(3, 2)
PASS(4, 2)
PASS(5, 2)
PASS(6, 2)
PASS(7, 2)
PASS(8, 2)
PASS(9, 2)
PASS(10, 2)
PASS(11, 2)
PASS(12, 2)
#endif

static const Pass passes[ROWS + 1] = {
    NULL, pass_1_1,
#if ROWS > 1
    pass_2_1, pass_3_1,
#endif
#if ROWS > 3
    pass_4_1, pass_5_1, pass_6_1,
#endif
#if ROWS > 6
    pass_7_1, pass_8_1, pass_9_1, pass_10_1, pass_11_1, pass_12_1,
#endif
};

/* The same over `wide(count)` panels, NULL where there is none. */
static const Pass wide_passes[ROWS + 1] = {
    NULL, pass_1_4,
#if ROWS > 1
    pass_2_2,
#endif
#if ROWS > 6
    pass_3_2, pass_4_2, pass_5_2, pass_6_2, pass_7_2, pass_8_2, pass_9_2, pass_10_2, pass_11_2, pass_12_2,
#endif
};

/* Panels of a pass over `count` rows at most: enough sums to hide how long one takes. */
static size_t wide(size_t count) { return count == 1 ? 4 : count == 2 || ROWS > 6 ? 2 : 1; }

/* Rows in passes as equal as may be, so that none is left with too few sums to hide how long one takes. Meanwhile
 * the weights after them come nearer, where there are passes enough to do so in their shadow. */
static void multiply_panels(const Product *product, const float *const *rows, size_t first, const float *weights,
                            const float *next, size_t at_once, float *z, int adds)
{
    const size_t count = product->count;
    const size_t turns = (count + ROWS - 1) / ROWS;
    const size_t depth = smaller(product->depth, product->channels - first);
    const size_t lines = turns < LEAST_TURNS ? 0 : depth * at_once;
    const Pass *const table = at_once > 1 ? wide_passes : passes;
    for (size_t turn = 0, row = 0; turn < turns; turn++) {
        const size_t taken = count / turns + (turn < count % turns);
        for (size_t line = turn * lines / turns; line < (turn + 1) * lines / turns; line++) {
            PREFETCH(next + line * PANEL);
        }
        table[taken](rows + row, first, depth, weights, product->channels * PANEL, z + row * product->z_row,
                     product->z_row, adds);
        row += taken;
    }
}

/* One point, or tap, and a stretch of channels. */
typedef struct Step {
    size_t point;
    size_t first;
} Step;

/* The order keeps in the second-level cache what comes back soonest: a direct convolution's taps read almost the same
 * rows, so that all of them go over a stretch of channels before the next; a point's rows are its own. */
static Step step_at(const Product *product, size_t index)
{
    const size_t stretches = (product->channels + product->depth - 1) / product->depth;
    if (product->z_point == 0) {
        return (Step){index % product->points, index / product->points * product->depth};
    }
    return (Step){index / stretches, index % stretches * product->depth};
}

static const float *weights_of(const Product *product, Step step, size_t panel)
{
    return product->weights + step.point * product->weights_point + (panel * product->channels + step.first) * PANEL;
}

/* The sums over no channels. */
static void set_to_zero(const Product *product)
{
    for (size_t point = 0; point < product->points; point++) {
        for (size_t row = 0; row < product->count; row++) {
            float *z = product->z + point * product->z_point + row * product->z_row;
            memset(z, 0, product->panels * PANEL * sizeof z[0]);
        }
    }
}

static void multiply(const Product *product)
{
    const size_t turns = (product->count + ROWS - 1) / ROWS;
    const size_t most = wide((product->count + turns - 1) / turns);
    const size_t steps = product->points * ((product->channels + product->depth - 1) / product->depth);
    if (steps == 0) {
        set_to_zero(product);
    }
    for (size_t index = 0; index < steps; index++) {
        const Step step = step_at(product, index);
        const Step after = index + 1 < steps ? step_at(product, index + 1) : step;
        const float *const *rows = product->rows + step.point * product->count;
        float *z = product->z + step.point * product->z_point;
        const int adds = product->z_point == 0 ? index > 0 : step.first > 0;
        for (size_t panel = 0, at_once; panel < product->panels; panel += at_once) {
            at_once = panel + most <= product->panels ? most : 1;
            const int last = panel + at_once == product->panels;
            const float *next = last ? weights_of(product, after, 0) : weights_of(product, step, panel + at_once);
            multiply_panels(product, rows, step.first, weights_of(product, step, panel), next, at_once,
                            z + panel * PANEL, adds);
        }
    }
}

#endif
