/* The loops of Conv1d and QConv1d that are compiled for each instruction set: inner_*.c over floats, bytes_*.c over
 * bytes define LANES, ROWS, FUSED and TARGET and include the bodies.
 *
 * Both see words of four bytes: a float, or four channels of a byte each, whose products are summed in 32 bits. */
#ifndef OMNI_CONV1D_INNER_H
#define OMNI_CONV1D_INNER_H

#include "conv1d.h"

/* Z[point][row][column] = sum over channels of rows[point][row][channel] * weights[point][panel][channel][column],
 * for some panels; where all points add to one sum (a direct convolution), z_point is 0. */
typedef struct Product {
    const float *const *rows; /* [points][count] */
    const float *weights;     /* of point 0, from the first panel on */
    size_t weights_point;     /* floats from one point to the next */
    size_t points;
    size_t taps; /* points that one pass takes; more than 1 only where they add to one sum */
    size_t panels;
    size_t count;
    size_t channels;
    size_t depth;
    float *z;
    size_t z_point;
    size_t z_row;
} Product;

/* The results in Z of some tiles and panels; they may be overwritten. */
typedef struct Finish {
    float *z;
    size_t z_point;
    size_t z_row;
    float *rows;   /* room for `tile` rows */
    size_t first;  /* tile */
    size_t tiles;
    size_t column; /* first output channel */
    size_t count;  /* output channels */
} Finish;

struct Inner {
    size_t rows; /* that one pass of the products takes best */
    void (*multiply)(const Product *product);
    /* Point p of the transformed tile goes to d + p * plane; zeros fill the channels up to whole vectors. */
    void (*transform_input)(const float *const *rows, size_t channels, size_t points, float *d, size_t plane);
    void (*finish)(const Job *job, const Finish *finish);
};

extern const Inner inner_generic;
extern const Inner inner_avx2;
extern const Inner inner_avx512;
extern const Inner bytes_avx2;
extern const Inner bytes_avx512;
extern const Inner bytes_vnni;

const Inner *choose_inner(Variant variant);
const Inner *choose_bytes(Variant variant);

#endif
