/* What every operator of the domain `omni` shares: its description, its inputs, its errors and its share of threads.
 *
 * An operator is a constant `Operator`; ORT sees its first member. ORT owns the tensors and frees them; a kernel owns
 * nothing but its attributes, which `operator_destroy` frees. Every function that can fail returns a status, NULL for
 * success, in the words "Expected what, got what - at where".
 */
#ifndef OMNI_OPERATOR_H
#define OMNI_OPERATOR_H

#include "ort_abi.h"

#include "variants.h"

enum { MAX_INPUTS = 12, MAX_OUTPUTS = 4, MAX_RANK = 4 };

#define TRY(call)                   \
    do {                            \
        OrtStatus *status_ = (call); \
        if (status_ != NULL) {      \
            return status_;         \
        }                           \
    } while (0)

typedef struct Port {
    const char *name; /* NULL ends a list of ports */
    int type;
    int optional;
} Port;

typedef struct Kernel Kernel;

typedef struct Operator {
    OrtCustomOp abi;
    const char *name;
    Port inputs[MAX_INPUTS + 1];
    Port outputs[MAX_OUTPUTS + 1];
    int shuffles; /* has the attributes stride, trim_begin and trim_end */
    OrtStatus *(*compute)(const Kernel *kernel, OrtKernelContext *context);
    size_t kernel_size; /* where a kernel has more than a Kernel, which is then its first member; else 0 */
    OrtStatus *(*open)(Kernel *kernel, const OrtKernelInfo *info); /* reads further attributes; may be NULL */
    void (*close)(void); /* called once for each kernel that `open` succeeded on; may be NULL */
} Operator;

struct Kernel {
    const Operator *operator;
    Variant variant;
    int64_t channels_last;
    int64_t stride;
    int64_t trim_begin;
    int64_t trim_end;
};

typedef struct Tensor {
    int given; /* 0 where an optional tensor is absent */
    void *data; /* may be NULL in a tensor of no elements too */
    size_t rank;
    int64_t dims[MAX_RANK];
} Tensor;

/* The three axes of a signal, whichever way round they lie. */
typedef struct Signal {
    size_t batch;
    size_t channels;
    size_t time;
} Signal;

/* A tensor's elements in memory order, cut into pieces that stay in the second-level cache. */
typedef struct Span {
    size_t count;
    size_t piece;
} Span;

extern const OrtApi *ort; /* set before any kernel is created, never changed */
extern int refuses_missing_outputs; /* whether this ORT does; older ones write beyond a node's outputs */

/* The callbacks that do not depend on the operator; `infer` and `in_place` do. */
#define OPERATOR_ABI(infer, in_place)                                                                               \
    {                                                                                                               \
        .version = ORT_API_VERSION, .GetName = operator_name, .GetExecutionProviderType = operator_provider,        \
        .GetInputType = operator_input_type, .GetInputTypeCount = operator_input_count,                             \
        .GetOutputType = operator_output_type, .GetOutputTypeCount = operator_output_count,                         \
        .KernelDestroy = operator_destroy, .GetInputCharacteristic = operator_input_characteristic,                 \
        .GetOutputCharacteristic = operator_output_characteristic, .GetInputMemoryType = operator_zero_at,          \
        .GetVariadicInputMinArity = operator_zero, .GetVariadicInputHomogeneity = operator_zero,                    \
        .GetVariadicOutputMinArity = operator_zero, .GetVariadicOutputHomogeneity = operator_zero,                  \
        .CreateKernelV2 = operator_create, .KernelComputeV2 = operator_compute, .InferOutputShapeFn = (infer),      \
        .GetStartVersion = operator_one, .GetEndVersion = operator_one, .GetMayInplace = (in_place),                \
        .ReleaseMayInplace = operator_keep_pairs,                                                                   \
    }

const char *ORT_CALL operator_name(const OrtCustomOp *op);
const char *ORT_CALL operator_provider(const OrtCustomOp *op);
int ORT_CALL operator_input_type(const OrtCustomOp *op, size_t index);
size_t ORT_CALL operator_input_count(const OrtCustomOp *op);
int ORT_CALL operator_output_type(const OrtCustomOp *op, size_t index);
size_t ORT_CALL operator_output_count(const OrtCustomOp *op);
int ORT_CALL operator_input_characteristic(const OrtCustomOp *op, size_t index);
int ORT_CALL operator_output_characteristic(const OrtCustomOp *op, size_t index);
int ORT_CALL operator_zero_at(const OrtCustomOp *op, size_t index);
int ORT_CALL operator_zero(const OrtCustomOp *op);
int ORT_CALL operator_one(const OrtCustomOp *op);
OrtStatus *ORT_CALL operator_create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel);
OrtStatus *ORT_CALL operator_compute(void *kernel, OrtKernelContext *context);
void ORT_CALL operator_destroy(void *kernel);
void ORT_CALL operator_keep_pairs(int *inputs, int *outputs);

/* Leaves `*value` as it is where the node has no such attribute. */
OrtStatus *read_attribute(const Operator *operator, const OrtKernelInfo *info, const char *name, int64_t lowest,
                          int64_t highest, int64_t *value);

/* Every output has the shape of the first input. */
OrtStatus *ORT_CALL infer_same_shape(const OrtCustomOp *op, OrtShapeContext *context);
/* Every output has the first input's shape after its pixel shuffle and trim. */
OrtStatus *ORT_CALL infer_shuffled_shape(const OrtCustomOp *op, OrtShapeContext *context);

/* A convolution's outputs from its attributes and the shape of its first input and its past. */
OrtStatus *ORT_CALL infer_convolved_shape(const OrtCustomOp *op, OrtShapeContext *context);

typedef struct ShapeText {
    char text[80];
} ShapeText;

/* A tensor's shape as messages have it: [1, 2, 3]. */
ShapeText describe_shape(const Tensor *tensor);

OrtStatus *fail(const char *format, ...);
OrtStatus *read_input(const Kernel *kernel, const OrtKernelContext *context, size_t index, Tensor *tensor);
/* The first input: a signal of rank 3, its axes in the order that `channels_last` says. */
OrtStatus *read_signal(const Kernel *kernel, const OrtKernelContext *context, Tensor *tensor, Signal *signal);
/* One value a channel, or `columns` of them: shape [channels] or [channels, columns]. */
OrtStatus *read_per_channel(const Kernel *kernel, const OrtKernelContext *context, size_t index, size_t channels,
                            size_t columns, void **data);
/* A single value: shape [] or [1]. */
OrtStatus *read_scalar(const Kernel *kernel, const OrtKernelContext *context, size_t index, void *value, size_t size);
/* The same shape as `like`. */
OrtStatus *read_like(const Kernel *kernel, const OrtKernelContext *context, size_t index, const Tensor *like,
                     void **data);
/* Exactly this shape; `*data` is NULL where an optional input is absent, and may be where it has no elements. */
OrtStatus *read_shaped(const Kernel *kernel, const OrtKernelContext *context, size_t index, const int64_t *dims,
                       size_t rank, void **data);
/* Allocates an output; `*data` is NULL where the node does not ask for it. */
OrtStatus *make_output(OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank, void **data);

Span cut(size_t count);
/* The same pieces, as near as may be, counted in whole rows of `size` elements each. */
Span cut_rows(Span span, size_t size);
/* Calls piece(user, i) for each piece of the span, on the session's own threads where there is more than one. */
OrtStatus *run_pieces(OrtKernelContext *context, Piece piece, void *user, Span span);

static ALWAYS_INLINE size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

#endif
