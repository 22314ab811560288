/* QAddSnake: sum = (X - x_zero_point) * x_scale + residual, Y = sum + inv_beta * sin(alpha * sum)^2 quantized by
 * y_scale and y_zero_point, in one pass. The sum may take the residual's memory
 * and Y X's. */
#include "operators.h"
#include "quantized.h"
#include "runs.h"
#include "snake_math.h"

#include <string.h>

typedef struct Job {
    const uint8_t *x;
    const float *residual;
    uint8_t *y;
    float *sum; /* NULL where the node does not ask for it */
    PerChannel values;
    Quantization of_x;
    Quantization of_y;
    Signal signal;
    int channels_last;
    int is_signed;
    Span span;
} Job;

static ALWAYS_INLINE void qadd_run(const Job *job, size_t at, Run run, const int per_element, const int is_signed,
                                   const int fused)
{
    float values[RUN_SIZE];
    const uint8_t *x = job->x + at;
    const float *residual = job->residual + at;
    uint8_t *y = job->y + at;
    const Quantization of_x = job->of_x;
    const int32_t zero_point = job->of_y.zero_point;
    const float inverse_scale = 1.0F / job->of_y.scale;
    for (size_t i = 0; i < run.count; i++) {
        values[i] = dequantize(x[i], of_x, is_signed) + residual[i];
    }
    if (job->sum != NULL) {
        memcpy(job->sum + at, values, run.count * sizeof values[0]);
    }
    snake_run(values, values, run.count, run.values, per_element, fused);
    for (size_t i = 0; i < run.count; i++) {
        y[i] = quantize(values[i], inverse_scale, zero_point, is_signed);
    }
}

static ALWAYS_INLINE void qadd_piece(const Job *job, size_t begin, const int channels_last, const int is_signed,
                                     const int fused)
{
    const size_t end = smaller(begin + job->span.piece, job->span.count);
    Runs runs;
    open_runs(&runs, job->values, job->signal, channels_last);
    for (size_t at = begin; at < end;) {
        const Run run = next_run(&runs, at, end);
        qadd_run(job, at, run, channels_last, is_signed, fused);
        at += run.count;
    }
}

static ALWAYS_INLINE void qadd_snake_body(void *user, size_t index, const int fused)
{
    const Job *job = user;
    const size_t begin = index * job->span.piece;
    if (job->channels_last && job->is_signed) {
        qadd_piece(job, begin, 1, 1, fused);
    } else if (job->channels_last) {
        qadd_piece(job, begin, 1, 0, fused);
    } else if (job->is_signed) {
        qadd_piece(job, begin, 0, 1, fused);
    } else {
        qadd_piece(job, begin, 0, 0, fused);
    }
}

VARIANTS(qadd_snake);

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    Tensor x;
    Job job = {.channels_last = (int)kernel->channels_last,
               .is_signed = kernel->operator->inputs[0].type == ORT_INT8};
    TRY(read_signal(kernel, context, &x, &job.signal));
    TRY(read_quantization(kernel, context, 1, &job.of_x));
    TRY(read_like(kernel, context, 3, &x, (void **)&job.residual));
    TRY(read_per_channel(kernel, context, 4, job.signal.channels, 1, (void **)&job.values.alpha));
    TRY(read_per_channel(kernel, context, 5, job.signal.channels, 1, (void **)&job.values.inv_beta));
    TRY(read_quantization(kernel, context, 6, &job.of_y));
    TRY(make_output(context, 0, x.dims, x.rank, (void **)&job.y));
    TRY(make_output(context, 1, x.dims, x.rank, (void **)&job.sum));
    job.x = x.data;
    job.span = cut(job.signal.batch * job.signal.channels * job.signal.time);
    return run_pieces(context, qadd_snake[kernel->variant], &job, job.span);
}

static size_t ORT_CALL in_place(int **inputs, int **outputs)
{
    static int from[2] = {3, 0};
    static int to[2] = {1, 0};
    *inputs = from;
    *outputs = to;
    return 2;
}

#define QADD_SNAKE(element)                                                                                         \
    {                                                                                                               \
        .abi = OPERATOR_ABI(infer_same_shape, in_place), .name = "QAddSnake",                                       \
        .inputs = {{"X", element, 0}, {"x_scale", ORT_FLOAT, 0}, {"x_zero_point", element, 0},                      \
                   {"residual", ORT_FLOAT, 0}, {"alpha", ORT_FLOAT, 0}, {"inv_beta", ORT_FLOAT, 0},                 \
                   {"y_scale", ORT_FLOAT, 0}, {"y_zero_point", element, 0}},                                        \
        .outputs = {{"Y", element, 0}, {"sum", ORT_FLOAT, 1}}, .compute = compute,                                  \
    }

const Operator qadd_snake_uint8_operator = QADD_SNAKE(ORT_UINT8);
const Operator qadd_snake_int8_operator = QADD_SNAKE(ORT_INT8);
