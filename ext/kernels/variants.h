/* One body, compiled once for each instruction set; which of them runs is chosen when the library is loaded.
 *
 * A kernel writes its inner loops once, as an always-inlined `NAME_body(user, index, fused)`, and `VARIANTS(NAME)`
 * makes the functions that carry it: `NAME_generic` for whatever the compiler targets by default (SSE2 on x86-64,
 * NEON on aarch64) and, on x86-64, `NAME_avx2` and `NAME_avx512`. The compiler vectorises each copy for its target.
 * `fused` is a constant in each copy: whether one instruction multiplies and adds with a single rounding.
 * The build machine's own flags play no part.
 */
#ifndef OMNI_VARIANTS_H
#define OMNI_VARIANTS_H

#include <stddef.h>

/* VNNI is AVX-512 with instructions that multiply bytes; whoever multiplies none takes it for AVX512. */
typedef enum { GENERIC, AVX2, AVX512, VNNI, VARIANT_COUNT } Variant;

/* The best variant for this processor, or the one that OMNI_SDK_KERNELS names.
 * On an unknown or unsupported name, writes the reason to `problem` and returns GENERIC. */
Variant choose_variant(char *problem, size_t size);

#if defined(__GNUC__) || defined(__clang__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))
#else
#define ALWAYS_INLINE __forceinline
#define NEVER_INLINE __declspec(noinline)
#endif

/* Promises that no iteration of the next loop reads what another wrote. Output and input may still be the same
 * memory at the same index, which is what an operator that works in place does. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT __pragma(loop(ivdep))
#endif

typedef void(ORT_CALL *Piece)(void *user, size_t index);

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define VARIANTS(name)                                                                     \
    static void name##_generic(void *user, size_t index) { name##_body(user, index, 0); } \
    __attribute__((target("avx2,fma"))) static void name##_avx2(void *user, size_t index) \
    {                                                                                      \
        name##_body(user, index, 1);                                                       \
    }                                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) static void name##_avx512( \
        void *user, size_t index)                                                          \
    {                                                                                      \
        name##_body(user, index, 1);                                                       \
    }                                                                                      \
    static const Piece name[VARIANT_COUNT] = {name##_generic, name##_avx2, name##_avx512, name##_avx512}
#else
#if defined(__aarch64__)
#define GENERIC_FUSED 1
#else
#define GENERIC_FUSED 0
#endif
#define VARIANTS(name)                                                                                            \
    static void ORT_CALL name##_generic(void *user, size_t index) { name##_body(user, index, GENERIC_FUSED); }   \
    static const Piece name[VARIANT_COUNT] = {name##_generic, name##_generic, name##_generic, name##_generic}
#endif

#endif
