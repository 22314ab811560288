/* Products and epilogue of QConv1d by AVX-512 with VNNI: one instruction multiplies and adds 64 pairs of bytes. */
#include "conv1d_inner.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define ROWS 8
#define WIDE 3
#define FUSED 1
#define TARGET __attribute__((target("avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define DOT(sum, word, weights) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_set1_epi32(word), (__m512i)(weights))

#include "byte_words.h"

#include "inner_product.h"

#include "byte_finish.h"

const Inner bytes_vnni = {.rows = ROWS, .multiply = multiply, .finish = finish};
#endif
