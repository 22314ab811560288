/* Products, transforms and epilogue of Conv1d by AVX2 and FMA: sixteen registers of eight floats hold 6 x 16 sums. */
#include "conv1d_inner.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define LANES 8
#define ROWS 6
#define WIDE 1
#define FUSED 1
#define TARGET __attribute__((target("avx2,fma")))

#include "float_words.h"

#include "inner_product.h"

#include "inner_transforms.h"

const Inner inner_avx2 = {.rows = ROWS, .multiply = multiply, .transform_input = transform_input, .finish = finish};
#endif
