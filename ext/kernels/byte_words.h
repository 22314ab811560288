/* Words of QConv1d: four channels, unsigned bytes in rows, signed ones in weights; a sum is of all four products.
 * The including file defines DOT, what adds the products of a word and a vector of weights to a vector of sums; or
 * MADD, what multiplies 16 bits and adds in pairs; or neither. Each way is exact: nothing saturates.
 */
#ifndef OMNI_BYTE_WORDS_H
#define OMNI_BYTE_WORDS_H

#include "vectors.h"

/* A quarter as large as floats, weights come soon enough by themselves. */
#define PREFETCH(address) ((void)(address))

typedef int32_t ANYWHERE Word; /* a caller's bytes may begin at any address */
typedef VECTOR_OF(int32_t) Lanes;

#if defined(MADD)
/* Even and odd bytes by themselves, widened to 16 bits; the compiler does it once for the rows that share weights. */
static ALWAYS_INLINE TARGET Lanes multiply_add(Lanes sum, Word value, Lanes weight)
{
    typedef VECTOR_OF(int16_t) Halves;
    const Lanes low = (Lanes){0} + (value & 0x00ff00ff);
    const Lanes high = (Lanes){0} + (int32_t)((uint32_t)value >> 8 & 0x00ff00ff);
    const Halves halves = (Halves)weight;
    return sum + (Lanes)MADD(low, (Halves)((halves << 8) >> 8)) + (Lanes)MADD(high, halves >> 8);
}
#elif defined(DOT)
static ALWAYS_INLINE TARGET Lanes multiply_add(Lanes sum, Word value, Lanes weight)
{
    return (Lanes)DOT(sum, value, weight);
}
#else
static ALWAYS_INLINE int32_t channel_of(int32_t word, int index)
{
    return (int32_t)((uint32_t)word >> (8 * index) & 0xff);
}

static ALWAYS_INLINE Lanes multiply_add(Lanes sum, Word value, Lanes weight)
{
    typedef VECTOR_OF(uint32_t) Unsigned;
    for (int i = 0; i < 4; i++) {
        const Lanes high = (Lanes)((Unsigned)weight << (24 - 8 * i));
        sum += channel_of(value, i) * (high >> 24);
    }
    return sum;
}
#endif

#endif
