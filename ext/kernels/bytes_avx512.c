/* Products and epilogue of QConv1d by AVX-512 without VNNI. */
#include "conv1d_inner.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define ROWS 12
#define WIDE 2
#define FUSED 1
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define MADD(a, b) _mm512_madd_epi16((__m512i)(a), (__m512i)(b))

#include "byte_words.h"

#include "inner_product.h"

#include "byte_finish.h"

const Inner bytes_avx512 = {.rows = ROWS, .multiply = multiply, .finish = finish};
#endif
