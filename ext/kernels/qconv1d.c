/* QConv1d: Conv1d over bytes. Signals and weights are bytes, their products are summed exactly in 32 bits, and what
 * follows is float until Y is written, as floats or as bytes again.
 *
 *   V = past, quantized by x_scale and x_zero_point, or pad_begin zero points, X, pad_end zero points
 *   sum[n, t, m] = (offset[m] + sum over j, c of V[n, t + j * dilation, c] * w[m, c, j]) * multiplier[m]
 *                  + residual[n, t, m]
 *   Y = sum + inv_beta * sin(alpha * sum)^2, or sum where there is no alpha
 *   bytes = Y quantized by y_scale and y_zero_point
 *   present = the last (kernel - 1) * dilation rows of V without its padding at the end, dequantized, behind zeros
 *             where it has fewer; rows of the past stay the floats that they are
 *
 * `offset` takes back what the zero point adds to every sum, and has the bias. W holds w[m, c, j] as
 * [kernel, panels, channels / 4, 16 outputs x 4 channels]. */
#include "conv1d_inner.h"
#include "operators.h"
#include "quantized.h"

#include <string.h>

enum { X, X_SCALE, X_ZERO_POINT, W, OFFSET, MULTIPLIER, PAST, RESIDUAL, ALPHA, INV_BETA, Y_SCALE, Y_ZERO_POINT };
enum { Y, SUM, PRESENT, BYTES };
enum { WORD = 4 }; /* channels */

static OrtStatus *open_kernel(Kernel *kernel, const OrtKernelInfo *info)
{
    Conv1d *conv = (Conv1d *)kernel;
    conv->tile = 1;
    TRY(read_convolution(conv, info));
    conv->inner = choose_bytes(kernel->variant);
    open_scratch();
    return NULL;
}

static OrtStatus *read_rest(const Conv1d *conv, const OrtKernelContext *context, Job *job, Bytes *bytes)
{
    const Kernel *kernel = &conv->base;
    const Dims dims = dims_of(conv, job);
    const int64_t weights[4] = {conv->kernel, (int64_t)job->panels, (int64_t)(job->channels / WORD), PANEL * WORD};
    if (job->channels % WORD != 0) {
        return fail("Expected a multiple of %d channels, got %zu - at omni::%s, input X", WORD, job->channels,
                    kernel->operator->name);
    }
    TRY(read_shaped(kernel, context, W, weights, 4, (void **)&job->weights));
    TRY(read_per_channel(kernel, context, OFFSET, job->out_channels, 1, (void **)&bytes->offset));
    TRY(read_per_channel(kernel, context, MULTIPLIER, job->out_channels, 1, (void **)&bytes->multiplier));
    TRY(read_shaped(kernel, context, RESIDUAL, dims.y, 3, (void **)&job->residual));
    return read_snake(kernel, context, ALPHA, INV_BETA, job);
}

/* Bytes are asked for where the node has that output, and then their scale is needed. */
static OrtStatus *make_bytes(const Conv1d *conv, OrtKernelContext *context, const Dims *dims, Bytes *bytes)
{
    Tensor scale;
    Tensor zero_point;
    Quantization quantization;
    TRY(make_output(context, BYTES, dims->y, 3, (void **)&bytes->y));
    TRY(read_input(&conv->base, context, Y_SCALE, &scale));
    TRY(read_input(&conv->base, context, Y_ZERO_POINT, &zero_point));
    if (bytes->y == NULL) {
        return NULL;
    }
    if (!scale.given || !zero_point.given) {
        return fail("Expected a %s for the output bytes, got none - at omni::%s, input %s",
                    scale.given ? "zero point" : "scale", conv->base.operator->name,
                    scale.given ? "y_zero_point" : "y_scale");
    }
    TRY(read_quantization(&conv->base, context, Y_SCALE, &quantization));
    bytes->inverse_scale = 1.0F / quantization.scale;
    bytes->zero_point = quantization.zero_point;
    return NULL;
}

static void quantize_past(const float *past, size_t count, Quantization quantization, uint8_t *bytes)
{
    const float inverse_scale = 1.0F / quantization.scale;
    for (size_t i = 0; i < count; i++) {
        bytes[i] = quantize(past[i], inverse_scale, quantization.zero_point, 0);
    }
}

/* After all else, because a caller may have past and present share their memory. */
static void write_present(const Job *job, size_t span, const uint8_t *x, const float *past, Quantization quantization,
                          float *present)
{
    const size_t row = job->channels * WORD;
    const size_t fresh = smaller(span, job->time);
    for (size_t item = 0; item < job->batch; item++) {
        float *to = present + item * span * row;
        const uint8_t *from = x + ((item + 1) * job->time - fresh) * row;
        keep_past(job, span, past, row, item, to);
        for (size_t i = 0; i < fresh * row; i++) {
            to[(span - fresh) * row + i] = dequantize(from[i], quantization, 0);
        }
    }
}

/* `count` words again and again, written where `*to` is, which moves behind them; NULL where there are none. */
static const void *repeated(const void *words, size_t count, size_t rows, float **to)
{
    float *first = *to;
    if (words == NULL) {
        return NULL;
    }
    for (size_t row = 0; row < rows; row++) {
        memcpy(first + row * count, words, count * sizeof first[0]);
    }
    *to = first + rows * count;
    return first;
}

static void repeat_values(Job *job, Bytes *bytes, float *to)
{
    const size_t count = job->out_channels;
    bytes->offset = repeated(bytes->offset, count, bytes->rows, &to);
    bytes->multiplier = repeated(bytes->multiplier, count, bytes->rows, &to);
    job->alpha = repeated(job->alpha, count, bytes->rows, &to);
    job->inv_beta = repeated(job->inv_beta, count, bytes->rows, &to);
}

/* From here on the job counts its channels in words. */
static OrtStatus *run_job(OrtKernelContext *context, Job *job, Bytes *bytes, Quantization of_x)
{
    enum { VALUES = 4 };
    job->channels /= WORD;
    job->padding = (uint8_t)of_x.zero_point;
    bytes->rows = job->out_channels < REPEATED ? REPEATED / job->out_channels : 1;
    const size_t words = job->past == NULL ? 0 : job->batch * job->lead * job->channels;
    float *memory = take_scratch(words + VALUES * bytes->rows * job->out_channels);
    if (memory == NULL) {
        return fail("Expected working memory, got none - at omni::QConv1d");
    }
    if (words > 0) {
        quantize_past(job->past, words * WORD, of_x, (uint8_t *)memory);
        job->past = memory;
    }
    repeat_values(job, bytes, memory + words);
    plan_conv1d(job);
    OrtStatus *status = job->tiles > 0 ? run_conv1d(context, job) : NULL;
    give_scratch(memory);
    return status;
}

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    const Conv1d *conv = (const Conv1d *)kernel;
    Bytes bytes = {0};
    Job job = {
        .inner = conv->inner,
        .bytes = &bytes,
        .kernel = (size_t)conv->kernel,
        .tile = 1,
        .points = (size_t)conv->kernel,
        .dilation = (size_t)conv->dilation,
        .out_channels = (size_t)conv->out_channels,
        .panels = rounded_up((size_t)conv->out_channels, PANEL) / PANEL,
    };
    Quantization of_x;
    float *present = NULL;
    TRY(read_columns(conv, context, PAST, &job));
    TRY(read_quantization(kernel, context, X_SCALE, &of_x));
    TRY(read_rest(conv, context, &job, &bytes));
    const Dims dims = dims_of(conv, &job);
    const uint8_t *x = (const uint8_t *)job.x;
    const float *past = job.past;
    TRY(make_output(context, Y, dims.y, 3, (void **)&job.y));
    TRY(make_output(context, SUM, dims.y, 3, (void **)&job.sum));
    TRY(make_output(context, PRESENT, dims.present, 3, (void **)&present));
    TRY(make_bytes(conv, context, &dims, &bytes));
    TRY(run_job(context, &job, &bytes, of_x));
    if (present != NULL) {
        write_present(&job, (size_t)dims.present[1], x, past, of_x, present);
    }
    return NULL;
}

static size_t ORT_CALL in_place(int **inputs, int **outputs)
{
    static int from[2] = {RESIDUAL, RESIDUAL};
    static int to[2] = {SUM, Y};
    *inputs = from;
    *outputs = to;
    return 2;
}

const Operator qconv1d_operator = {
    .abi = OPERATOR_ABI(infer_convolved_shape, in_place),
    .name = "QConv1d",
    .inputs = {{"X", ORT_UINT8, 0}, {"x_scale", ORT_FLOAT, 0}, {"x_zero_point", ORT_UINT8, 0}, {"W", ORT_INT8, 0},
               {"offset", ORT_INT32, 0}, {"multiplier", ORT_FLOAT, 0}, {"past", ORT_FLOAT, 1},
               {"residual", ORT_FLOAT, 1}, {"alpha", ORT_FLOAT, 1}, {"inv_beta", ORT_FLOAT, 1},
               {"y_scale", ORT_FLOAT, 1}, {"y_zero_point", ORT_UINT8, 1}},
    .outputs = {{"Y", ORT_FLOAT, 1}, {"sum", ORT_FLOAT, 1}, {"present", ORT_FLOAT, 1}, {"bytes", ORT_UINT8, 1}},
    .compute = compute,
    .kernel_size = sizeof(Conv1d),
    .open = open_kernel,
    .close = close_scratch,
};
