/* AddSnake: sum = A + B, Y = sum + inv_beta * sin(alpha * sum)^2, in one pass. The sum may take A's memory and Y B's:
 * both inputs of a stretch are read before either output of it is written. */
#include "operators.h"
#include "runs.h"
#include "snake_math.h"

#include <string.h>

typedef struct Job {
    const float *a;
    const float *b;
    float *y;
    float *sum; /* NULL where the node does not ask for it */
    PerChannel values;
    Signal signal;
    int channels_last;
    Span span;
} Job;

static ALWAYS_INLINE void add_run(const Job *job, size_t at, Run run, const int per_element, const int fused)
{
    float sum[RUN_SIZE];
    for (size_t i = 0; i < run.count; i++) {
        sum[i] = job->a[at + i] + job->b[at + i];
    }
    if (job->sum != NULL) {
        memcpy(job->sum + at, sum, run.count * sizeof sum[0]);
    }
    snake_run(sum, job->y + at, run.count, run.values, per_element, fused);
}

static ALWAYS_INLINE void add_snake_body(void *user, size_t index, const int fused)
{
    const Job *job = user;
    const size_t end = smaller((index + 1) * job->span.piece, job->span.count);
    Runs runs;
    open_runs(&runs, job->values, job->signal, job->channels_last);
    for (size_t at = index * job->span.piece; at < end;) {
        const Run run = next_run(&runs, at, end);
        if (job->channels_last) {
            add_run(job, at, run, 1, fused);
        } else {
            add_run(job, at, run, 0, fused);
        }
        at += run.count;
    }
}

VARIANTS(add_snake);

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    Tensor a;
    Job job = {.channels_last = (int)kernel->channels_last};
    TRY(read_signal(kernel, context, &a, &job.signal));
    TRY(read_like(kernel, context, 1, &a, (void **)&job.b));
    TRY(read_per_channel(kernel, context, 2, job.signal.channels, 1, (void **)&job.values.alpha));
    TRY(read_per_channel(kernel, context, 3, job.signal.channels, 1, (void **)&job.values.inv_beta));
    TRY(make_output(context, 0, a.dims, a.rank, (void **)&job.y));
    TRY(make_output(context, 1, a.dims, a.rank, (void **)&job.sum));
    job.a = a.data;
    job.span = cut(job.signal.batch * job.signal.channels * job.signal.time);
    return run_pieces(context, add_snake[kernel->variant], &job, job.span);
}

static size_t ORT_CALL in_place(int **inputs, int **outputs)
{
    static int from[2] = {1, 0};
    static int to[2] = {0, 1};
    *inputs = from;
    *outputs = to;
    return 2;
}

const Operator add_snake_operator = {
    .abi = OPERATOR_ABI(infer_same_shape, in_place),
    .name = "AddSnake",
    .inputs = {{"A", ORT_FLOAT, 0}, {"B", ORT_FLOAT, 0}, {"alpha", ORT_FLOAT, 0}, {"inv_beta", ORT_FLOAT, 0}},
    .outputs = {{"Y", ORT_FLOAT, 0}, {"sum", ORT_FLOAT, 1}},
    .compute = compute,
};
