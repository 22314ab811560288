/* RegisterCustomOps, the one symbol that this library exports. */
#include "operators.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first ORT seen to refuse the shape of an output that a node lacks; 1.24 writes beyond the outputs that it has. And
 * the first that a node may lack an input of, before one that it has, where its operator tells shapes: 1.23 ends the
 * process there. */
enum { MINOR_THAT_REFUSES_MISSING_OUTPUTS = 32, MINOR_THAT_ALLOWS_MISSING_INPUTS = 24 };

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

static const Operator *const operators[] = {
    &snake_operator,           &add_snake_operator,      &shuffle_snake_operator,
    &qsnake_uint8_operator,    &qsnake_int8_operator,    &qadd_snake_uint8_operator,
    &qadd_snake_int8_operator, &qshuffle_snake_uint8_operator, &qshuffle_snake_int8_operator,
    &conv1d_operator,          &qconv1d_operator,
};

const OrtApi *ort = NULL;
int refuses_missing_outputs = 0;

static int is_at_least(const char *version, int minor)
{
    const char *dot = strchr(version, '.');
    return atoi(version) > 1 || (dot != NULL && atoi(dot + 1) >= minor);
}

static OrtStatus *too_old(const OrtApiBase *base)
{
    char message[160];
    const OrtApi *first = base->GetApi(1);
    if (first == NULL) {
        return NULL; /* nothing to say it with; the session will say that it does not know the domain */
    }
    snprintf(message, sizeof message, "Expected ONNX Runtime 1.%d or later, got %s - at the operators of domain omni",
             ORT_API_VERSION, base->GetVersionString());
    return first->CreateStatus(ORT_FAIL, message);
}

/* A copy that tells no shapes, and so runs nothing in place. */
static OrtStatus *add_without_shapes(OrtCustomOpDomain *domain, const Operator *operator)
{
    Operator *copy = malloc(sizeof *copy);
    if (copy == NULL) {
        return fail("Expected %zu bytes, got none - at the operators of domain omni", sizeof *copy);
    }
    memcpy(copy, operator, sizeof *copy);
    copy->abi.InferOutputShapeFn = NULL;
    return ort->CustomOpDomain_Add(domain, &copy->abi);
}

static OrtStatus *make_domain(OrtCustomOpDomain **domain, int tells_shapes)
{
    OrtStatus *status = ort->CreateCustomOpDomain("omni", domain);
    for (size_t i = 0; status == NULL && i < sizeof operators / sizeof operators[0]; i++) {
        status = tells_shapes ? ort->CustomOpDomain_Add(*domain, &operators[i]->abi)
                              : add_without_shapes(*domain, operators[i]);
    }
    return status;
}

/* The domain must outlive every session, and nobody tells us when the last is gone, so one domain serves them all
 * until the process ends, with any copies that it has. Two threads that are first at once make one each; both are
 * whole, and one is kept. */
EXPORTED OrtStatus *ORT_CALL RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base)
{
    static OrtCustomOpDomain *kept = NULL;
    const OrtApi *api = base->GetApi(ORT_API_VERSION);
    if (api == NULL) {
        return too_old(base);
    }
    ort = api;
    refuses_missing_outputs = is_at_least(base->GetVersionString(), MINOR_THAT_REFUSES_MISSING_OUTPUTS);
    if (kept == NULL) {
        OrtCustomOpDomain *domain = NULL;
        OrtStatus *status = make_domain(&domain, is_at_least(base->GetVersionString(), MINOR_THAT_ALLOWS_MISSING_INPUTS));
        if (status != NULL) {
            if (domain != NULL) {
                ort->ReleaseCustomOpDomain(domain);
            }
            return status;
        }
        kept = domain;
    }
    return ort->AddCustomOpDomain(options, kept);
}
