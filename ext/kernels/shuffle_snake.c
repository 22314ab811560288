/* ShuffleSnake: shuffled = pixel shuffle and trim of X, plus bias; Y = shuffled + inv_beta * sin(alpha * shuffled)^2. */
#include "operators.h"
#include "runs.h"
#include "shuffle.h"
#include "snake_math.h"

#include <string.h>

typedef struct Job {
    const float *x;
    float *y;
    float *shuffled; /* NULL where the node does not ask for it */
    PerChannel values;
    Shuffle shuffle;
    Span span;
} Job;

SHUFFLE_GATHER(gather_floats, float)

static ALWAYS_INLINE void gather_run(const Job *job, size_t at, size_t count, float *samples)
{
    const size_t time = job->shuffle.signal.time;
    if (job->shuffle.channels_last) {
        memcpy(samples, job->x + shuffle_offset_last(&job->shuffle, at), count * sizeof samples[0]);
    } else {
        gather_floats(&job->shuffle, job->x, at / time, at % time, count, samples);
    }
}

static ALWAYS_INLINE void shuffle_run(const Job *job, size_t at, Run run, const int per_element, const int fused)
{
    float samples[RUN_SIZE];
    gather_run(job, at, run.count, samples);
    if (run.values.bias != NULL) {
        for (size_t i = 0; i < run.count; i++) {
            samples[i] += run.values.bias[per_element ? i : 0];
        }
    }
    if (job->shuffled != NULL) {
        memcpy(job->shuffled + at, samples, run.count * sizeof samples[0]);
    }
    snake_run(samples, job->y + at, run.count, run.values, per_element, fused);
}

static ALWAYS_INLINE void shuffle_snake_body(void *user, size_t index, const int fused)
{
    const Job *job = user;
    const size_t of_batch = job->shuffle.signal.channels * job->shuffle.signal.time;
    const size_t end = smaller((index + 1) * job->span.piece, job->span.count);
    Runs runs;
    open_runs(&runs, job->values, job->shuffle.signal, job->shuffle.channels_last);
    for (size_t at = index * job->span.piece; at < end;) {
        const Run run = next_run(&runs, at, smaller(end, (at / of_batch + 1) * of_batch));
        if (job->shuffle.channels_last) {
            shuffle_run(job, at, run, 1, fused);
        } else {
            shuffle_run(job, at, run, 0, fused);
        }
        at += run.count;
    }
}

VARIANTS(shuffle_snake);

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    Tensor x;
    int64_t dims[3];
    Job job = {0};
    TRY(read_shuffle(kernel, context, &x, &job.shuffle, dims));
    const Signal signal = job.shuffle.signal;
    TRY(read_per_channel(kernel, context, 1, signal.channels, 1, (void **)&job.values.alpha));
    TRY(read_per_channel(kernel, context, 2, signal.channels, 1, (void **)&job.values.inv_beta));
    TRY(read_per_channel(kernel, context, 3, signal.channels, 1, (void **)&job.values.bias));
    TRY(make_output(context, 0, dims, 3, (void **)&job.y));
    TRY(make_output(context, 1, dims, 3, (void **)&job.shuffled));
    job.x = x.data;
    job.span = cut(signal.batch * signal.channels * signal.time);
    return run_pieces(context, shuffle_snake[kernel->variant], &job, job.span);
}

const Operator shuffle_snake_operator = {
    .abi = OPERATOR_ABI(infer_shuffled_shape, NULL),
    .name = "ShuffleSnake",
    .inputs = {{"X", ORT_FLOAT, 0}, {"alpha", ORT_FLOAT, 0}, {"inv_beta", ORT_FLOAT, 0}, {"bias", ORT_FLOAT, 1}},
    .outputs = {{"Y", ORT_FLOAT, 0}, {"shuffled", ORT_FLOAT, 1}},
    .shuffles = 1,
    .compute = compute,
};
