/* Products and epilogue of QConv1d by AVX2: six rows of sums fit beside two panels' weights, widened. */
#include "conv1d_inner.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define ROWS 6
#define WIDE 1
#define FUSED 1
#define TARGET __attribute__((target("avx2,fma")))
#define MADD(a, b) _mm256_madd_epi16((__m256i)(a), (__m256i)(b))

#include "byte_words.h"

#include "inner_product.h"

#include "byte_finish.h"

const Inner bytes_avx2 = {.rows = ROWS, .multiply = multiply, .finish = finish};
#endif
