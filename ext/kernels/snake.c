/* Snake: Y = X + inv_beta * sin(alpha * X)^2, float to float. Y may take X's memory. */
#include "operators.h"
#include "runs.h"
#include "snake_math.h"

typedef struct Job {
    const float *x;
    float *y;
    PerChannel values;
    Signal signal;
    int channels_last;
    Span span;
} Job;

static ALWAYS_INLINE void snake_body(void *user, size_t index, const int fused)
{
    const Job *job = user;
    const size_t end = smaller((index + 1) * job->span.piece, job->span.count);
    Runs runs;
    open_runs(&runs, job->values, job->signal, job->channels_last);
    for (size_t at = index * job->span.piece; at < end;) {
        const Run run = next_run(&runs, at, end);
        if (job->channels_last) {
            snake_run(job->x + at, job->y + at, run.count, run.values, 1, fused);
        } else {
            snake_run(job->x + at, job->y + at, run.count, run.values, 0, fused);
        }
        at += run.count;
    }
}

VARIANTS(snake);

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    Tensor x;
    Job job = {.channels_last = (int)kernel->channels_last};
    TRY(read_signal(kernel, context, &x, &job.signal));
    TRY(read_per_channel(kernel, context, 1, job.signal.channels, 1, (void **)&job.values.alpha));
    TRY(read_per_channel(kernel, context, 2, job.signal.channels, 1, (void **)&job.values.inv_beta));
    TRY(make_output(context, 0, x.dims, x.rank, (void **)&job.y));
    job.x = x.data;
    job.span = cut(job.signal.batch * job.signal.channels * job.signal.time);
    return run_pieces(context, snake[kernel->variant], &job, job.span);
}

static size_t ORT_CALL in_place(int **inputs, int **outputs)
{
    static int input = 0;
    static int output = 0;
    *inputs = &input;
    *outputs = &output;
    return 1;
}

const Operator snake_operator = {
    .abi = OPERATOR_ABI(infer_same_shape, in_place),
    .name = "Snake",
    .inputs = {{"X", ORT_FLOAT, 0}, {"alpha", ORT_FLOAT, 0}, {"inv_beta", ORT_FLOAT, 0}},
    .outputs = {{"Y", ORT_FLOAT, 0}},
    .compute = compute,
};
