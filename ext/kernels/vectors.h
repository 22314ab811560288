/* Vectors as wide as LANES words of four bytes, which may stand anywhere that a word may, and hints for loops over
 * them. */
#ifndef OMNI_VECTORS_H
#define OMNI_VECTORS_H

#include "conv1d.h"

#if defined(__GNUC__) || defined(__clang__)
#define MAY_ALIAS __attribute__((may_alias))
#define VECTOR_OF(type) type __attribute__((vector_size(LANES * 4), aligned(4), may_alias))
#define UNROLL _Pragma("GCC unroll 16")
#else
#define MAY_ALIAS
#define VECTOR_OF(type) type /* LANES is 1 */
#define UNROLL
#endif

#endif
