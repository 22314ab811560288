/* Products, transforms and epilogue of Conv1d by AVX-512: thirty-two registers of sixteen floats hold 12 x 32 sums. */
#include "conv1d_inner.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define LANES 16
#define ROWS 12
#define WIDE 2
#define FUSED 1
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

#include "float_words.h"

#include "inner_product.h"

#include "inner_transforms.h"

const Inner inner_avx512 = {.rows = ROWS, .multiply = multiply, .transform_input = transform_input, .finish = finish};
#endif
