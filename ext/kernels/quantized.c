/* The checks of a scale and its zero point, and tables of bytes. */
#include "quantized.h"

#include <math.h>

enum { WORD = sizeof(uint64_t) };

OrtStatus *read_quantization(const Kernel *kernel, const OrtKernelContext *context, size_t index,
                             Quantization *quantization)
{
    uint8_t zero_point = 0;
    TRY(read_scalar(kernel, context, index, &quantization->scale, sizeof quantization->scale));
    TRY(read_scalar(kernel, context, index + 1, &zero_point, sizeof zero_point));
    if (!(quantization->scale > 0 && isnormal(quantization->scale))) {
        return fail("Expected a positive finite scale, got %g - at omni::%s, input %s", (double)quantization->scale,
                    kernel->operator->name, kernel->operator->inputs[index].name);
    }
    quantization->zero_point = read_byte(zero_point, kernel->operator->inputs[0].type == ORT_INT8);
    return NULL;
}

/* Eight bytes in one word, `step` from each byte's table to the next: one load and one store instead of eight. */
static ALWAYS_INLINE void look_up_word(const uint8_t *x, uint8_t *y, const uint8_t *tables, const size_t step,
                                       uint64_t flip)
{
    uint64_t entries;
    uint64_t found = 0;
    memcpy(&entries, x, sizeof entries);
    entries ^= flip;
    for (size_t i = 0; i < sizeof entries; i++) {
        found |= (uint64_t)tables[i * step + (entries >> (8 * i) & 0xff)] << (8 * i);
    }
    memcpy(y, &found, sizeof found);
}

static ALWAYS_INLINE void look_up_rest(const uint8_t *x, uint8_t *y, size_t count, const uint8_t *tables,
                                       const size_t step, uint64_t flip)
{
    for (size_t i = 0; i < count; i++) {
        y[i] = tables[i * step + (x[i] ^ (flip & 0xff))];
    }
}

/* Signed bytes count from -128, unsigned ones from 0. */
static uint64_t flip_of(int is_signed) { return is_signed ? 0x8080808080808080U : 0; }

void look_up(const uint8_t *x, uint8_t *y, size_t count, const uint8_t *table, int is_signed)
{
    const uint64_t flip = flip_of(is_signed);
    const size_t whole = count / WORD * WORD;
    for (size_t i = 0; i < whole; i += WORD) {
        look_up_word(x + i, y + i, table, 0, flip);
    }
    look_up_rest(x + whole, y + whole, count - whole, table, 0, flip);
}

/* Eight channels at a time, whose tables stay in the first-level cache while all rows go by. */
void look_up_rows(const uint8_t *x, uint8_t *y, size_t rows, size_t channels, const uint8_t *tables, int is_signed)
{
    const uint64_t flip = flip_of(is_signed);
    const size_t whole = channels / WORD * WORD;
    for (size_t c = 0; c < whole; c += WORD) {
        for (size_t row = 0; row < rows; row++) {
            const size_t at = row * channels + c;
            look_up_word(x + at, y + at, tables + c * TABLE_SIZE, TABLE_SIZE, flip);
        }
    }
    for (size_t row = 0; row < rows && whole < channels; row++) {
        const size_t at = row * channels + whole;
        look_up_rest(x + at, y + at, channels - whole, tables + whole * TABLE_SIZE, TABLE_SIZE, flip);
    }
}
