/* Products and epilogue of QConv1d by what the compiler targets anyway: SSE2, NEON, or plain C. */
#include "conv1d_inner.h"

#if defined(__GNUC__) || defined(__clang__)
#define LANES 4
#else
#define LANES 1
#endif
#if defined(__aarch64__)
#define ROWS 6
#define FUSED 1
#else
#if LANES == 4
#define ROWS 3
#else
#define ROWS 1
#endif
#define FUSED 0
#endif
#define WIDE 1
#define TARGET
#if LANES == 4 && defined(__x86_64__)
#include <emmintrin.h>
#define MADD(a, b) _mm_madd_epi16((__m128i)(a), (__m128i)(b))
#endif

#include "byte_words.h"

#include "inner_product.h"

#include "byte_finish.h"

static const Inner bytes_generic = {.rows = ROWS, .multiply = multiply, .finish = finish};

const Inner *choose_bytes(Variant variant)
{
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    static const Inner *const each[VARIANT_COUNT] = {&bytes_generic, &bytes_avx2, &bytes_avx512, &bytes_vnni};
    return each[variant];
#else
    (void)variant;
    return &bytes_generic;
#endif
}
