/* Quantized signals: a byte q stands for (q - zero_point) * scale, q from 0 to 255 or from -128 to 127.
 *
 * Bytes are handled as uint8_t whatever their type; `is_signed`, a constant where these are inlined, tells how to read
 * them. Rounding is to the nearest, halves to even; values out of range take the range's end, NaN its lower end.
 */
#ifndef OMNI_QUANTIZED_H
#define OMNI_QUANTIZED_H

#include "operator.h"

#include <string.h>

enum { TABLE_SIZE = 256 };

typedef struct Quantization {
    float scale;
    int32_t zero_point;
} Quantization;

/* Reads a scale and the zero point that follows it: single values, the scale positive, finite and not denormal. */
OrtStatus *read_quantization(const Kernel *kernel, const OrtKernelContext *context, size_t index,
                             Quantization *quantization);

static ALWAYS_INLINE int32_t read_byte(uint8_t byte, const int is_signed)
{
    return is_signed ? (int32_t)(int8_t)byte : (int32_t)byte;
}

static ALWAYS_INLINE float dequantize(uint8_t byte, Quantization quantization, const int is_signed)
{
    return (float)(read_byte(byte, is_signed) - quantization.zero_point) * quantization.scale;
}

/* Adding 1.5 * 2^23 leaves the rounded number in the low bits of the sum. */
static ALWAYS_INLINE uint8_t quantize(float value, float inverse_scale, int32_t zero_point, const int is_signed)
{
    const float lowest = (float)((is_signed ? -128 : 0) - zero_point);
    const float highest = lowest + 255.0F;
    float steps = value * inverse_scale;
    steps = steps > lowest ? steps : lowest;
    steps = steps < highest ? steps : highest;
    steps += 12582912.0F;
    int32_t bits;
    memcpy(&bits, &steps, sizeof bits);
    return (uint8_t)(bits + zero_point);
}

/* y[i] = table[x[i]], entries in the order of the values: entry 0 is for 0, or for -128 where the bytes are signed. */
void look_up(const uint8_t *x, uint8_t *y, size_t count, const uint8_t *table, int is_signed);

/* The same for `rows` rows of `channels` bytes, each channel with its own table. */
void look_up_rows(const uint8_t *x, uint8_t *y, size_t rows, size_t channels, const uint8_t *tables, int is_signed);

#endif
