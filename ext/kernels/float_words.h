/* Words of Conv1d: floats. */
#ifndef OMNI_FLOAT_WORDS_H
#define OMNI_FLOAT_WORDS_H

#include "vectors.h"

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define PREFETCH(address) ((void)0)
#endif

typedef float Word;
typedef VECTOR_OF(float) Lanes;

static ALWAYS_INLINE TARGET Lanes multiply_add(Lanes sum, Word value, Lanes weight) { return sum + value * weight; }

#endif
