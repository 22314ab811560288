/* QShuffleSnake: shuffled = pixel shuffle and trim of X; Y = table[channel][shuffled], a byte to a byte; and, where
 * the node asks for it, shuffled dequantized to float. */
#include "operators.h"
#include "quantized.h"
#include "runs.h"
#include "shuffle.h"

typedef struct Job {
    const uint8_t *x;
    uint8_t *y;
    float *shuffled; /* NULL where the node does not ask for it */
    const uint8_t *tables;
    Quantization quantization; /* of X */
    Shuffle shuffle;
    int is_signed;
    Span span; /* of elements; of rows that hold every channel where channels lie last */
} Job;

SHUFFLE_GATHER(gather_bytes, uint8_t)

static ALWAYS_INLINE void dequantize_run(const Job *job, const uint8_t *bytes, float *values, size_t count)
{
    const Quantization quantization = job->quantization;
    if (job->is_signed) {
        for (size_t i = 0; i < count; i++) {
            values[i] = dequantize(bytes[i], quantization, 1);
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            values[i] = dequantize(bytes[i], quantization, 0);
        }
    }
}

static ALWAYS_INLINE void qshuffle_first(const Job *job, size_t begin, size_t end)
{
    const size_t time = job->shuffle.signal.time;
    for (size_t at = begin; at < end;) {
        uint8_t samples[RUN_SIZE];
        const size_t row = at / time;
        const size_t count = smaller(smaller(end - at, time - at % time), RUN_SIZE);
        gather_bytes(&job->shuffle, job->x, row, at % time, count, samples);
        look_up(samples, job->y + at, count, job->tables + row % job->shuffle.signal.channels * TABLE_SIZE,
                job->is_signed);
        if (job->shuffled != NULL) {
            dequantize_run(job, samples, job->shuffled + at, count);
        }
        at += count;
    }
}

static ALWAYS_INLINE void qshuffle_last(const Job *job, size_t begin, size_t end)
{
    const size_t channels = job->shuffle.signal.channels;
    const size_t time = job->shuffle.signal.time;
    for (size_t row = begin; row < end;) {
        const size_t rows = smaller(end - row, time - row % time);
        const size_t at = row * channels;
        const uint8_t *x = job->x + shuffle_offset_last(&job->shuffle, at);
        look_up_rows(x, job->y + at, rows, channels, job->tables, job->is_signed);
        if (job->shuffled != NULL) {
            dequantize_run(job, x, job->shuffled + at, rows * channels);
        }
        row += rows;
    }
}

static ALWAYS_INLINE void qshuffle_snake_body(void *user, size_t index, const int fused)
{
    const Job *job = user;
    const size_t begin = index * job->span.piece;
    const size_t end = smaller(begin + job->span.piece, job->span.count);
    (void)fused; /* nothing is added to a product */
    if (job->shuffle.channels_last) {
        qshuffle_last(job, begin, end);
    } else {
        qshuffle_first(job, begin, end);
    }
}

VARIANTS(qshuffle_snake);

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    Tensor x;
    int64_t dims[3];
    Job job = {.is_signed = kernel->operator->inputs[0].type == ORT_INT8};
    TRY(read_shuffle(kernel, context, &x, &job.shuffle, dims));
    const Signal signal = job.shuffle.signal;
    TRY(read_quantization(kernel, context, 1, &job.quantization));
    TRY(read_per_channel(kernel, context, 3, signal.channels, TABLE_SIZE, (void **)&job.tables));
    TRY(make_output(context, 0, dims, 3, (void **)&job.y));
    TRY(make_output(context, 1, dims, 3, (void **)&job.shuffled));
    job.x = x.data;
    job.span = cut(signal.batch * signal.channels * signal.time);
    if (kernel->channels_last && job.span.count > 0) {
        job.span = cut_rows(job.span, signal.channels);
    }
    return run_pieces(context, qshuffle_snake[kernel->variant], &job, job.span);
}

#define QSHUFFLE_SNAKE(element)                                                                                \
    {                                                                                                          \
        .abi = OPERATOR_ABI(infer_shuffled_shape, NULL), .name = "QShuffleSnake",                              \
        .inputs = {{"X", element, 0}, {"x_scale", ORT_FLOAT, 0}, {"x_zero_point", element, 0},                 \
                   {"table", element, 0}},                                                                     \
        .outputs = {{"Y", element, 0}, {"shuffled", ORT_FLOAT, 1}}, .shuffles = 1, .compute = compute,         \
    }

const Operator qshuffle_snake_uint8_operator = QSHUFFLE_SNAKE(ORT_UINT8);
const Operator qshuffle_snake_int8_operator = QSHUFFLE_SNAKE(ORT_INT8);
