/* Conv1d: a convolution of one dimension, channels last, stride 1, with all that stands next to it.
 *
 *   V = past (of any length up to (kernel - 1) * dilation) or pad_begin zeros, X, pad_end zeros
 *   sum[n, t, m] = bias[m] + residual[n, t, m] + sum over j, c of V[n, t + j * dilation, c] * w[m, c, j]
 *   Y = sum + inv_beta * sin(alpha * sum)^2, or sum where there is no alpha
 *   present = the last (kernel - 1) * dilation rows of V without its zeros at the end, behind zeros where it has fewer
 *
 * W holds w transformed for tiles of `tile` outputs and laid out in panels, as omni_sdk/tools/prepare/winograd.py packs
 * it: by Winograd's algorithm where tile is above 1. */
#include "conv1d_inner.h"
#include "operators.h"

#include <string.h>

enum { X, W, PAST, BIAS, RESIDUAL, ALPHA, INV_BETA };
enum { Y, SUM, PRESENT };

static size_t span_of(const Conv1d *conv) { return (size_t)((conv->kernel - 1) * conv->dilation); }

static OrtStatus *check_tile(const Conv1d *conv)
{
    const char *name = conv->base.operator->name;
    const long long tile = conv->tile;
    if (tile != 1 && tile != 2 && tile != 4 && tile != 6) {
        return fail("Expected 1, 2, 4 or 6, got %lld - at omni::%s, attribute tile", tile, name);
    }
    if (tile > 1 && conv->kernel < 2) {
        return fail("Expected a tile of 1 for a kernel of 1, got %lld - at omni::%s, attribute tile", tile, name);
    }
    return NULL;
}

OrtStatus *read_convolution(Conv1d *conv, const OrtKernelInfo *info)
{
    enum { LARGEST = 1 << 20 };
    const Operator *operator = conv->base.operator;
    conv->dilation = 1;
    conv->base.channels_last = 1;
    TRY(read_attribute(operator, info, "kernel", 1, MAX_KERNEL, &conv->kernel));
    TRY(read_attribute(operator, info, "dilation", 1, LARGEST, &conv->dilation));
    TRY(read_attribute(operator, info, "out_channels", 1, LARGEST, &conv->out_channels));
    TRY(read_attribute(operator, info, "pad_begin", 0, LARGEST, &conv->pad_begin));
    TRY(read_attribute(operator, info, "pad_end", 0, LARGEST, &conv->pad_end));
    if (conv->kernel == 0 || conv->out_channels == 0) {
        return fail("Expected an integer, got none - at omni::%s, attribute %s", operator->name,
                    conv->kernel == 0 ? "kernel" : "out_channels");
    }
    return NULL;
}

static OrtStatus *open_kernel(Kernel *kernel, const OrtKernelInfo *info)
{
    Conv1d *conv = (Conv1d *)kernel;
    conv->tile = 1;
    TRY(read_convolution(conv, info));
    TRY(read_attribute(kernel->operator, info, "tile", 1, MAX_TILE, &conv->tile));
    TRY(check_tile(conv));
    conv->inner = choose_inner(kernel->variant);
    open_scratch();
    return NULL;
}

/* A past may be shorter than what the kernel looks back: a stream's first chunk has none of it, 0 columns, which is
 * another thing than no past at all. Whether ORT gives such a tensor memory depends on its memory pattern. */
static OrtStatus *read_past(const Conv1d *conv, const OrtKernelContext *context, size_t index, const Tensor *x,
                            Job *job)
{
    const char *name = conv->base.operator->name;
    Tensor past;
    TRY(read_input(&conv->base, context, index, &past));
    job->lead = (size_t)conv->pad_begin;
    if (!past.given) {
        return NULL;
    }
    if (past.rank != 3 || past.dims[0] != x->dims[0] || past.dims[1] > (int64_t)span_of(conv) ||
        past.dims[2] != x->dims[2]) {
        return fail("Expected shape [%lld, at most %zu, %lld], got %s - at omni::%s, input past",
                    (long long)x->dims[0], span_of(conv), (long long)x->dims[2],
                    describe_shape(&past).text, name);
    }
    if (conv->pad_begin != 0) {
        return fail("Expected no padding at the beginning beside a past, got %lld - at omni::%s, attribute pad_begin",
                    (long long)conv->pad_begin, name);
    }
    job->past = past.data;
    job->lead = (size_t)past.dims[1];
    return NULL;
}

/* X and past, and the sizes that follow from them. */
OrtStatus *read_columns(const Conv1d *conv, const OrtKernelContext *context, size_t past, Job *job)
{
    const Kernel *kernel = &conv->base;
    Tensor x;
    Signal signal;
    TRY(read_signal(kernel, context, &x, &signal));
    TRY(read_past(conv, context, past, &x, job));
    job->x = x.data;
    job->batch = signal.batch;
    job->time = signal.time;
    job->channels = signal.channels;
    const size_t whole = job->lead + signal.time + (size_t)conv->pad_end;
    if (whole < span_of(conv)) {
        return fail("Expected at least %zu columns with their padding, got %zu - at omni::%s, input X", span_of(conv),
                    whole, kernel->operator->name);
    }
    job->time_out = whole - span_of(conv);
    return NULL;
}

OrtStatus *read_snake(const Kernel *kernel, const OrtKernelContext *context, size_t alpha, size_t inv_beta, Job *job)
{
    TRY(read_per_channel(kernel, context, alpha, job->out_channels, 1, (void **)&job->alpha));
    TRY(read_per_channel(kernel, context, inv_beta, job->out_channels, 1, (void **)&job->inv_beta));
    if ((job->alpha == NULL) != (job->inv_beta == NULL)) {
        return fail("Expected alpha and inv_beta, got only one - at omni::%s, input %s", kernel->operator->name,
                    job->alpha == NULL ? "alpha" : "inv_beta");
    }
    return NULL;
}

static OrtStatus *read_rest(const Conv1d *conv, const OrtKernelContext *context, Job *job)
{
    const Kernel *kernel = &conv->base;
    const int64_t weights[4] = {(int64_t)job->points, (int64_t)job->panels, (int64_t)job->channels, PANEL};
    const Dims dims = dims_of(conv, job);
    TRY(read_shaped(kernel, context, W, weights, 4, (void **)&job->weights));
    TRY(read_per_channel(kernel, context, BIAS, job->out_channels, 1, (void **)&job->bias));
    TRY(read_shaped(kernel, context, RESIDUAL, dims.y, 3, (void **)&job->residual));
    return read_snake(kernel, context, ALPHA, INV_BETA, job);
}

Dims dims_of(const Conv1d *conv, const Job *job)
{
    return (Dims){
        .y = {(int64_t)job->batch, (int64_t)job->time_out, conv->out_channels},
        .present = {(int64_t)job->batch, (int64_t)span_of(conv), (int64_t)job->channels},
    };
}

void keep_past(const Job *job, size_t span, const float *past, size_t channels, size_t item, float *present)
{
    const size_t before = span - smaller(span, job->time);
    const size_t kept = past != NULL ? smaller(before, job->lead) : 0;
    if (kept > 0) {
        memmove(present + (before - kept) * channels, past + ((item + 1) * job->lead - kept) * channels,
                kept * channels * sizeof present[0]);
    }
    memset(present, 0, (before - kept) * channels * sizeof present[0]);
}

/* After all else, because a caller may have past and present share their memory. */
static void write_present(const Job *job, size_t span, float *present)
{
    const size_t row = job->channels;
    const size_t fresh = smaller(span, job->time);
    for (size_t item = 0; item < job->batch; item++) {
        float *to = present + item * span * row;
        const float *x = job->x + item * job->time * row;
        keep_past(job, span, job->past, row, item, to);
        memcpy(to + (span - fresh) * row, x + (job->time - fresh) * row, fresh * row * sizeof to[0]);
    }
}

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    const Conv1d *conv = (const Conv1d *)kernel;
    Job job = {
        .inner = conv->inner,
        .kernel = (size_t)conv->kernel,
        .tile = (size_t)conv->tile,
        .points = (size_t)(conv->tile + conv->kernel - 1),
        .dilation = (size_t)conv->dilation,
        .out_channels = (size_t)conv->out_channels,
        .panels = rounded_up((size_t)conv->out_channels, PANEL) / PANEL,
    };
    float *present = NULL;
    TRY(read_columns(conv, context, PAST, &job));
    TRY(read_rest(conv, context, &job));
    const Dims dims = dims_of(conv, &job);
    TRY(make_output(context, Y, dims.y, 3, (void **)&job.y));
    TRY(make_output(context, SUM, dims.y, 3, (void **)&job.sum));
    TRY(make_output(context, PRESENT, dims.present, 3, (void **)&present));
    plan_conv1d(&job);
    if (job.tiles > 0) {
        TRY(run_conv1d(context, &job));
    }
    if (present != NULL) {
        write_present(&job, span_of(conv), present);
    }
    return NULL;
}

static size_t ORT_CALL in_place(int **inputs, int **outputs)
{
    static int from[2] = {RESIDUAL, RESIDUAL};
    static int to[2] = {Y, SUM};
    *inputs = from;
    *outputs = to;
    return 2;
}

const Operator conv1d_operator = {
    .abi = OPERATOR_ABI(infer_convolved_shape, in_place),
    .name = "Conv1d",
    .inputs = {{"X", ORT_FLOAT, 0}, {"W", ORT_FLOAT, 0}, {"past", ORT_FLOAT, 1}, {"bias", ORT_FLOAT, 1},
               {"residual", ORT_FLOAT, 1}, {"alpha", ORT_FLOAT, 1}, {"inv_beta", ORT_FLOAT, 1}},
    .outputs = {{"Y", ORT_FLOAT, 0}, {"sum", ORT_FLOAT, 1}, {"present", ORT_FLOAT, 1}},
    .compute = compute,
    .kernel_size = sizeof(Conv1d),
    .open = open_kernel,
    .close = close_scratch,
};
