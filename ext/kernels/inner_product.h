/* Products of rows with panels of weights, for one instruction set; the including file defines
 *   LANES         words of a vector,
 *   ROWS, WIDE    rows and panels whose sums fit in registers beside the panels' weights,
 *   TARGET        what makes the compiler use the instruction set,
 *   Word, Lanes   a word and a vector of them,
 *   multiply_add  a vector of sums, a word and a vector of weights to the new sums,
 *   PREFETCH      what brings weights nearer, or nothing.
 *
 * Weights lie as [panel][channel][16], so one pass streams them in order while it holds rows x 16 sums; rows are read
 * where they lie, one broadcast a channel. A stretch of `depth` channels of a panel, over `taps` taps where their
 * products add to one sum, stays in the first-level cache while all rows pass over it.
 */
#ifndef OMNI_INNER_PRODUCT_H
#define OMNI_INNER_PRODUCT_H

#include "conv1d_inner.h"

#include <string.h>

enum {
    VECTORS = PANEL / LANES,
    MAX_AT_ONCE = 4,
    LEAST_TURNS = 4,
    MAX_SUMS = (ROWS * WIDE < MAX_AT_ONCE ? MAX_AT_ONCE : ROWS * WIDE) * VECTORS
};

/* What sums begin with. Read, where a loop of zeros would become a call that fills memory with them. */
static const Word nothing[MAX_AT_ONCE * PANEL];

/* What one pass goes over, but for the rows and panels that it takes. */
typedef struct Stretch {
    const Word *const *rows; /* the first of the pass */
    size_t rows_tap;         /* rows from one tap to the next */
    size_t taps;
    size_t first; /* channel */
    size_t depth;
    const Word *weights; /* of the first channel */
    size_t weights_tap;  /* words from one tap to the next */
    size_t weights_panel;
    Word *z;
    size_t z_row;
    int adds;
} Stretch;

/* One pass: `count` rows by `at_once` panels; both are constants where this is inlined. */
static ALWAYS_INLINE TARGET void pass_body(const Stretch *stretch, const int count, const int at_once)
{
    Lanes sums[MAX_SUMS];
    UNROLL
    for (int i = 0; i < count * at_once * VECTORS; i++) {
        sums[i] = *(const Lanes *)(nothing + i % (MAX_AT_ONCE * VECTORS) * LANES);
    }
    for (size_t tap = 0; tap < stretch->taps; tap++) {
        const Word *row[ROWS];
        const Word *weights = stretch->weights + tap * stretch->weights_tap;
        const size_t panel = stretch->weights_panel;
        const size_t depth = stretch->depth;
        UNROLL
        for (int r = 0; r < count; r++) {
            row[r] = stretch->rows[tap * stretch->rows_tap + (size_t)r] + stretch->first;
        }
        for (size_t k = 0; k < depth; k++) {
            Lanes weight[MAX_AT_ONCE * VECTORS];
            UNROLL
            for (int i = 0; i < at_once * VECTORS; i++) {
                const Word *from = weights + (size_t)(i / VECTORS) * panel + k * PANEL;
                weight[i] = *(const Lanes *)(from + (size_t)(i % VECTORS) * LANES);
            }
            UNROLL
            for (int r = 0; r < count; r++) {
                const Word value = row[r][k];
                UNROLL
                for (int i = 0; i < at_once * VECTORS; i++) {
                    sums[r * at_once * VECTORS + i] = multiply_add(sums[r * at_once * VECTORS + i], value, weight[i]);
                }
            }
        }
    }
    Word *const z = stretch->z;
    const size_t z_row = stretch->z_row;
    const int adds = stretch->adds;
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

typedef void (*Pass)(const Stretch *stretch);

#define PASS(count, at_once)                                              \
    static TARGET void pass_##count##_##at_once(const Stretch *stretch) \
    {                                                                     \
        pass_body(stretch, count, at_once);                               \
    }

/* Panels of a pass over two rows, and over more: enough sums to hide how long one takes. */
#if WIDE == 3
#define PAIR 3
#define PASSES(count) PASS(count, 1) PASS(count, 3)
#define WIDE_PASS(count) pass_##count##_3
#elif WIDE == 2
#define PAIR 2
#define PASSES(count) PASS(count, 1) PASS(count, 2)
#define WIDE_PASS(count) pass_##count##_2
#else
#define PAIR 2
#define PASSES(count) PASS(count, 1)
#define WIDE_PASS(count) NULL
#endif

PASS(1, 1)
PASS(1, 4)
#if ROWS > 1
PASSES(2)
PASSES(3)
#if WIDE == 1
PASS(2, 2)
#endif
#endif
#if ROWS > 3
PASSES(4)
PASSES(5)
PASSES(6)
#endif
#if ROWS > 6
PASSES(7)
PASSES(8)
#endif
#if ROWS > 8
PASSES(9)
PASSES(10)
PASSES(11)
PASSES(12)
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
    pass_7_1, pass_8_1,
#endif
#if ROWS > 8
    pass_9_1, pass_10_1, pass_11_1, pass_12_1,
#endif
};

/* The same over `wide(count)` panels, NULL where there is none. */
static const Pass wide_passes[ROWS + 1] = {
    NULL, pass_1_4,
#if ROWS > 1 && WIDE == 1
    pass_2_2, NULL,
#elif ROWS > 1
    WIDE_PASS(2), WIDE_PASS(3),
#endif
#if ROWS > 3
    WIDE_PASS(4), WIDE_PASS(5), WIDE_PASS(6),
#endif
#if ROWS > 6
    WIDE_PASS(7), WIDE_PASS(8),
#endif
#if ROWS > 8
    WIDE_PASS(9), WIDE_PASS(10), WIDE_PASS(11), WIDE_PASS(12),
#endif
};

static size_t wide(size_t count) { return count == 1 ? 4 : count == 2 ? PAIR : WIDE; }

/* Rows in passes as equal as may be, so that none is left with too few sums to hide how long one takes. Meanwhile
 * the weights after them come nearer, where there are passes enough to do so in their shadow. */
static void multiply_panels(Stretch stretch, size_t count, const Word *next, size_t at_once)
{
    const size_t turns = (count + ROWS - 1) / ROWS;
    const size_t lines = turns < LEAST_TURNS ? 0 : stretch.depth * at_once;
    const Pass *const table = at_once > 1 ? wide_passes : passes;
    for (size_t turn = 0; turn < turns; turn++) {
        const size_t taken = count / turns + (turn < count % turns);
        for (size_t tap = 0; tap < stretch.taps; tap++) {
            for (size_t line = turn * lines / turns; line < (turn + 1) * lines / turns; line++) {
                PREFETCH(next + tap * stretch.weights_tap + line * PANEL);
            }
        }
        table[taken](&stretch);
        stretch.rows += taken;
        stretch.z += taken * stretch.z_row;
    }
}

/* Some taps, or one point, and a stretch of channels. */
typedef struct Step {
    size_t point;
    size_t first;
} Step;

/* The order keeps in the second-level cache what comes back soonest: a direct convolution's taps read almost the same
 * rows, so that all of them go over a stretch of channels before the next; a point's rows are its own. */
static Step step_at(const Product *product, size_t index)
{
    const size_t stretches = (product->channels + product->depth - 1) / product->depth;
    const size_t turns = (product->points + product->taps - 1) / product->taps;
    if (product->z_point == 0) {
        return (Step){index % turns * product->taps, index / turns * product->depth};
    }
    return (Step){index / stretches, index % stretches * product->depth};
}

static const Word *weights_of(const Product *product, Step step, size_t panel)
{
    return (const Word *)product->weights + step.point * product->weights_point +
           (panel * product->channels + step.first) * PANEL;
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
    const size_t stretches = (product->channels + product->depth - 1) / product->depth;
    const size_t steps = stretches * ((product->points + product->taps - 1) / product->taps);
    if (steps == 0) {
        set_to_zero(product);
    }
    for (size_t index = 0; index < steps; index++) {
        const Step step = step_at(product, index);
        const Step after = index + 1 < steps ? step_at(product, index + 1) : step;
        Stretch stretch = {
            .rows = (const Word *const *)product->rows + step.point * product->count,
            .rows_tap = product->count,
            .taps = smaller(product->taps, product->points - step.point),
            .first = step.first,
            .depth = smaller(product->depth, product->channels - step.first),
            .weights_tap = product->weights_point,
            .weights_panel = product->channels * PANEL,
            .z_row = product->z_row,
            .adds = product->z_point == 0 ? index > 0 : step.first > 0,
        };
        for (size_t panel = 0, at_once; panel < product->panels; panel += at_once) {
            at_once = panel + most <= product->panels ? most : 1;
            const int last = panel + at_once == product->panels;
            stretch.weights = weights_of(product, step, panel);
            stretch.z = (Word *)product->z + step.point * product->z_point + panel * PANEL;
            const Word *next = last ? weights_of(product, after, 0) : weights_of(product, step, panel + at_once);
            multiply_panels(stretch, product->count, next, at_once);
        }
    }
}

#endif
