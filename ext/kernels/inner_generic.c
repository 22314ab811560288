/* Products, transforms and epilogue of Conv1d by what the compiler targets anyway: SSE2, NEON, or plain C. */
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

#include "float_words.h"

#include "inner_product.h"

#include "inner_transforms.h"

const Inner inner_generic = {.rows = ROWS, .multiply = multiply, .transform_input = transform_input, .finish = finish};

const Inner *choose_inner(Variant variant)
{
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    return variant >= AVX512 ? &inner_avx512 : variant == AVX2 ? &inner_avx2 : &inner_generic;
#else
    (void)variant;
    return &inner_generic;
#endif
}
