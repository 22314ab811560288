/* QSnake: Y = table[channel][X], a byte to a byte. Dequantize, Snake and quantize is a function of one byte in each
 * channel, so a table of 256 entries is that function, exactly. Y may take X's memory. */
#include "operators.h"
#include "quantized.h"

typedef struct Job {
    const uint8_t *x;
    uint8_t *y;
    const uint8_t *tables;
    Signal signal;
    int is_signed;
    Span span; /* of elements; of rows that hold every channel where channels lie last */
} Job;

static void ORT_CALL look_up_first(void *user, size_t index)
{
    const Job *job = user;
    const size_t end = smaller((index + 1) * job->span.piece, job->span.count);
    const size_t time = job->signal.time;
    for (size_t at = index * job->span.piece; at < end;) {
        const size_t count = smaller(end - at, time - at % time);
        look_up(job->x + at, job->y + at, count, job->tables + at / time % job->signal.channels * TABLE_SIZE,
                job->is_signed);
        at += count;
    }
}

static void ORT_CALL look_up_last(void *user, size_t index)
{
    const Job *job = user;
    const size_t begin = index * job->span.piece;
    const size_t rows = smaller(job->span.piece, job->span.count - begin);
    const size_t at = begin * job->signal.channels;
    look_up_rows(job->x + at, job->y + at, rows, job->signal.channels, job->tables, job->is_signed);
}

static OrtStatus *compute(const Kernel *kernel, OrtKernelContext *context)
{
    Tensor x;
    Job job = {.is_signed = kernel->operator->inputs[0].type == ORT_INT8};
    TRY(read_signal(kernel, context, &x, &job.signal));
    TRY(read_per_channel(kernel, context, 1, job.signal.channels, TABLE_SIZE, (void **)&job.tables));
    TRY(make_output(context, 0, x.dims, x.rank, (void **)&job.y));
    job.x = x.data;
    job.span = cut(job.signal.batch * job.signal.channels * job.signal.time);
    if (kernel->channels_last && job.signal.channels > 1) {
        job.span = cut_rows(job.span, job.signal.channels);
        return run_pieces(context, look_up_last, &job, job.span);
    }
    return run_pieces(context, look_up_first, &job, job.span);
}

static size_t ORT_CALL in_place(int **inputs, int **outputs)
{
    static int input = 0;
    static int output = 0;
    *inputs = &input;
    *outputs = &output;
    return 1;
}

#define QSNAKE(element)                                                                  \
    {                                                                                    \
        .abi = OPERATOR_ABI(infer_same_shape, in_place), .name = "QSnake",               \
        .inputs = {{"X", element, 0}, {"table", element, 0}}, .outputs = {{"Y", element, 0}}, \
        .compute = compute,                                                              \
    }

const Operator qsnake_uint8_operator = QSNAKE(ORT_UINT8);
const Operator qsnake_int8_operator = QSNAKE(ORT_INT8);
