/* Vectors as wide as LANES words of four bytes, which may stand at any byte, and hints for loops over them. */
#ifndef OMNI_VECTORS_H
#define OMNI_VECTORS_H

#include "conv1d.h"

#if defined(__GNUC__) || defined(__clang__)
#define MAY_ALIAS __attribute__((may_alias))
#define ANYWHERE __attribute__((may_alias, aligned(1)))
#define VECTOR_OF(type) type __attribute__((vector_size(LANES * 4), aligned(1), may_alias))
#define UNROLL _Pragma("GCC unroll 16")
#else
#define MAY_ALIAS
#define ANYWHERE
#define VECTOR_OF(type) type /* LANES is 1 */
#define UNROLL
#endif

#endif
