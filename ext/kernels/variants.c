/* Which instruction set this processor has, and the environment variable that overrides it. */
#include "ort_abi.h"

#include "variants.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int supported(Variant variant)
{
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    __builtin_cpu_init();
    if (variant == AVX2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    if (variant == AVX512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && supported(AVX2);
    }
    if (variant == VNNI) {
        return __builtin_cpu_supports("avx512vnni") && supported(AVX512);
    }
#endif
    return variant == GENERIC;
}

Variant choose_variant(char *problem, size_t size)
{
    static const char *const names[VARIANT_COUNT] = {"generic", "avx2", "avx512", "vnni"};
    const char *asked = getenv("OMNI_SDK_KERNELS");
    problem[0] = '\0';
    if (asked == NULL || asked[0] == '\0') {
        Variant best = VNNI;
        while (!supported(best)) {
            best--;
        }
        return best;
    }
    for (Variant variant = GENERIC; variant < VARIANT_COUNT; variant++) {
        if (strcmp(asked, names[variant]) == 0) {
            if (supported(variant)) {
                return variant;
            }
            snprintf(problem, size, "Expected an instruction set of this processor, got '%s' - at OMNI_SDK_KERNELS",
                     asked);
            return GENERIC;
        }
    }
    snprintf(problem, size, "Expected generic, avx2, avx512 or vnni, got '%.40s' - at OMNI_SDK_KERNELS", asked);
    return GENERIC;
}
