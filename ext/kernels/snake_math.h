/* x + inv_beta * sin(alpha * x)^2 over a run of floats.
 *
 * Guarantee. For every finite alpha, x and inv_beta, sin(alpha * x)^2 is within 5e-7 of its exact value, where
 * alpha * x is the exact product of the two floats, not its float rounding. The result is that, times inv_beta, plus
 * x, rounded once (where the processor fuses multiply and add) or twice. Denormals count in full. An infinite or NaN
 * x or alpha gives NaN, as the formula does.
 *
 * Method. sin^2 has period pi, so the angle is reduced to r in [-pi/2, pi/2] as the product minus the nearest
 * multiple of pi. With a fused multiply-add the product is carried as a rounded head and its exact rounding error, and
 * pi as a head and a tail; without one the product is exact in double. sin(r) is an odd polynomial of degree 9,
 * minimax on that interval (Remez exchange in 40 digits; largest error 4.6e-9). Both reductions hold while the
 * multiple of pi fits the rounding trick with room to spare; a run that holds a larger angle goes through libm.
 */
#ifndef OMNI_SNAKE_MATH_H
#define OMNI_SNAKE_MATH_H

#include "runs.h"

#include <math.h>

#define SNAKE_LARGEST_ANGLE 1048576.0F

#if defined(__GNUC__) || defined(__clang__)
#define FUSED_MULTIPLY_ADD __builtin_fmaf
#else
#define FUSED_MULTIPLY_ADD fmaf
#endif

/* sin(r) for |r| <= pi/2 */
static ALWAYS_INLINE float snake_sine(float r)
{
    const float z = r * r;
    float p = 2.599994e-06F;
    p = p * z - 1.9806589e-04F;
    p = p * z + 8.333017e-03F;
    p = p * z - 1.6666657e-01F;
    return r + r * z * p;
}

/* alpha * x less the nearest multiple of pi; adding and subtracting 1.5 * 2^p rounds to the nearest whole number */
static ALWAYS_INLINE float snake_angle(float alpha, float x, const int fused)
{
    if (fused) {
        const float rounder = 12582912.0F;
        const float product = alpha * x;
        const float error = FUSED_MULTIPLY_ADD(alpha, x, -product);
        const float turns = FUSED_MULTIPLY_ADD(product, 0.318309886F, rounder) - rounder;
        const float r = FUSED_MULTIPLY_ADD(turns, -3.14159274F, product);
        return FUSED_MULTIPLY_ADD(turns, 8.74227766e-8F, r) + error;
    }
    const double rounder = 6755399441055744.0;
    const double product = (double)alpha * x;
    const double turns = (product * 0.31830988618379067 + rounder) - rounder;
    return (float)(product - turns * 3.141592653589793);
}

static NEVER_INLINE void snake_by_libm(const float *x, float *y, size_t count, PerChannel values, int per_element)
{
    for (size_t i = 0; i < count; i++) {
        const size_t c = per_element ? i : 0;
        const double sine = sin((double)values.alpha[c] * x[i]);
        y[i] = (float)(x[i] + values.inv_beta[c] * (sine * sine));
    }
}

/* At most RUN_SIZE floats, so that both loops find them in the first-level cache. `per_element`: alpha and inv_beta
 * hold one value for each, else one for all. x and y are the same memory or do not overlap. */
static ALWAYS_INLINE void snake_run(const float *x, float *y, size_t count, PerChannel values, const int per_element,
                                     const int fused)
{
    const float one_alpha = values.alpha[0];
    const float one_inv_beta = values.inv_beta[0];
    uint32_t large = 0;
    for (size_t i = 0; i < count; i++) {
        const float alpha = per_element ? values.alpha[i] : one_alpha;
        large |= !(fabsf(alpha * x[i]) <= SNAKE_LARGEST_ANGLE);
    }
    if (large) {
        snake_by_libm(x, y, count, values, per_element);
        return;
    }
    INDEPENDENT
    for (size_t i = 0; i < count; i++) {
        const float alpha = per_element ? values.alpha[i] : one_alpha;
        const float inv_beta = per_element ? values.inv_beta[i] : one_inv_beta;
        const float sine = snake_sine(snake_angle(alpha, x[i], fused));
        y[i] = x[i] + inv_beta * (sine * sine);
    }
}

#endif
