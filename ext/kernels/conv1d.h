/* Conv1d: what its parts share. conv1d.c speaks with ORT, conv1d_plan.c cuts the work, conv1d_run.c does it, and the
 * loops that carry the arithmetic are compiled once for each instruction set (conv1d_inner.h).
 *
 * Words. V is the padded signal: past or zeros, X, zeros. A *tile* is `tile` outputs that stand `dilation` apart, so
 * that they read tile + kernel - 1 = `points` rows of V that stand as far apart: dilation d is d interleaved signals.
 * A *panel* is 16 output channels, a *block* some tiles, a *group* some panels.
 */
#ifndef OMNI_CONV1D_H
#define OMNI_CONV1D_H

#include "operator.h"

enum { PANEL = 16, MAX_TILE = 6, MAX_KERNEL = 11, MAX_POINTS = MAX_TILE + MAX_KERNEL - 1 };

typedef struct Inner Inner;

typedef struct Conv1d {
    Kernel base;
    int64_t kernel;
    int64_t tile; /* 1 is direct convolution */
    int64_t dilation;
    int64_t out_channels;
    int64_t pad_begin;
    int64_t pad_end;
    const Inner *inner;
} Conv1d;

/* How a run is cut; depends on shapes alone, so that the number of threads changes no bit. */
typedef struct Plan {
    size_t block;  /* tiles a block */
    size_t blocks;
    size_t group;  /* panels a group */
    size_t groups;
    size_t depth;  /* input channels that one pass of the products takes */
    size_t taps;   /* of a direct convolution, that it takes */
    int by_panels; /* one block whose groups are the pieces of work; else blocks are */
} Plan;

/* So many values of channels at most stand one after another where a row has fewer. */
enum { REPEATED = 384 };

/* What only a convolution of bytes has. */
typedef struct Bytes {
    const int32_t *offset; /* of each output channel, added to its sums */
    const float *multiplier;
    size_t rows; /* for so many rows these values and Snake's stand one after another */
    uint8_t *y; /* NULL where no bytes are asked for */
    float inverse_scale;
    int32_t zero_point;
} Bytes;

/* A convolution of bytes sees its channels, X, past and weights in words of four. */
typedef struct Job {
    const Inner *inner;
    const Bytes *bytes; /* NULL in a convolution of floats */
    uint8_t padding;    /* every byte of what stands before and after the signal */
    const float *x;
    const float *weights;
    const float *past;     /* NULL where absent, as those below */
    const float *bias;
    const float *residual;
    const float *alpha;
    const float *inv_beta;
    float *y; /* NULL where absent, as sum */
    float *sum;
    size_t kernel;
    size_t tile;
    size_t points;
    size_t dilation;
    size_t batch;
    size_t time;         /* columns of X */
    size_t lead;         /* columns of V before X */
    size_t time_out;
    size_t channels;
    size_t out_channels;
    size_t panels;
    size_t row_tiles;    /* tiles of one batch item */
    size_t tiles;        /* of all */
    size_t stride;       /* floats from one transformed row to the next: the channels, rounded up */
    Plan plan;
} Job;

/* Where a tile's outputs begin. */
typedef struct Place {
    size_t item;
    size_t within; /* the item's tiles before it */
    size_t phase;  /* which of the interleaved signals */
    size_t time;
} Place;

static ALWAYS_INLINE Place place_of(const Job *job, size_t tile)
{
    const size_t within = tile % job->row_tiles;
    const size_t phase = within % job->dilation;
    return (Place){tile / job->row_tiles, within, phase, (within - phase) * job->tile + phase};
}

static ALWAYS_INLINE Place next_place(const Job *job, Place place)
{
    if (++place.within == job->row_tiles) {
        return (Place){.item = place.item + 1};
    }
    place.time++;
    if (++place.phase == job->dilation) {
        place.phase = 0;
        place.time += job->dilation * (job->tile - 1);
    }
    return place;
}

static ALWAYS_INLINE size_t rounded_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

/* What Conv1d and QConv1d share. Y and what else is as large, and present, have these shapes. */
typedef struct Dims {
    int64_t y[3];
    int64_t present[3];
} Dims;

OrtStatus *read_convolution(Conv1d *conv, const OrtKernelInfo *info);
OrtStatus *read_columns(const Conv1d *conv, const OrtKernelContext *context, size_t past, Job *job);
/* Both of Snake's parameters or none, at these inputs. */
OrtStatus *read_snake(const Kernel *kernel, const OrtKernelContext *context, size_t alpha, size_t inv_beta, Job *job);
Dims dims_of(const Conv1d *conv, const Job *job);
/* The rows of an item's state that are from before X: the past's last ones, behind zeros. */
void keep_past(const Job *job, size_t span, const float *past, size_t channels, size_t item, float *present);

/* Fills in row_tiles, tiles, stride and plan from the sizes. */
void plan_conv1d(Job *job);

/* Y and sum of the whole job. */
OrtStatus *run_conv1d(OrtKernelContext *context, const Job *job);

/* Working memory, kept from one run to the next and shared by all kernels until the last of them is gone: what a run
 * needs it needs on every run, and fresh pages cost more than the arithmetic on them. */
void open_scratch(void);
void close_scratch(void);
float *take_scratch(size_t floats); /* aligned to a cache line; NULL where there is no memory */
void give_scratch(float *scratch);

#endif
