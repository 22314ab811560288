/* The work of Conv1d and QConv1d: blocks of tiles are transformed, multiplied and finished, each by one thread; or,
 * where tiles are few and weights many, one block is transformed by all threads together, and each then has groups of
 * panels. */
#include "conv1d_inner.h"

#include <stdatomic.h>
#include <string.h>

/* A block's rows, ready for the products. */
typedef struct Block {
    size_t first; /* tile */
    size_t count;
    const float **rows; /* [points][count] */
    const float *zeros; /* a row of them */
    float *transformed; /* [points][count][stride]; NULL in a direct convolution */
} Block;

typedef struct Work {
    const Job *job;
    Block shared; /* of a run by panels */
    atomic_int starved;
} Work;

enum { FLOATS_OF_POINTER = sizeof(void *) / sizeof(float), TRANSFORM_PIECE = 4 };

static size_t block_size(const Job *job, size_t count)
{
    const size_t rows = rounded_up(job->points * count * FLOATS_OF_POINTER, PANEL);
    return rows + job->stride + (job->tile == 1 ? 0 : job->points * count * job->stride);
}

/* The sums of a direct convolution may grow where Y will be, unless a residual may be there. */
static int grows_in_place(const Job *job)
{
    return job->tile == 1 && job->y != NULL && job->residual == NULL && job->out_channels % PANEL == 0;
}

static size_t results_size(const Job *job, size_t count)
{
    const size_t columns = job->plan.group * PANEL;
    return grows_in_place(job) ? 0 : (job->tile == 1 ? count : job->points * count + job->tile) * columns;
}

static const float *row_of_signal(const Job *job, const float *zeros, size_t item, size_t time)
{
    if (time < job->lead) {
        return job->past == NULL ? zeros : job->past + (item * job->lead + time) * job->channels;
    }
    time -= job->lead;
    return time < job->time ? job->x + (item * job->time + time) * job->channels : zeros;
}

static void find_rows(const Job *job, const Block *block, Place place, const float **rows, size_t step)
{
    for (size_t point = 0; point < job->points; point++) {
        rows[point * step] = row_of_signal(job, block->zeros, place.item, place.time + point * job->dilation);
    }
}

/* A direct convolution's block whose rows all lie in X of one item: no row has to be looked for. */
static int lies_within(const Job *job, const Block *block, Place place)
{
    return place.time >= job->lead && place.time + block->count <= job->time_out &&
           place.time + block->count + (job->points - 1) * job->dilation <= job->lead + job->time;
}

static void count_rows(const Job *job, const Block *block, Place place)
{
    const float *first = job->x + (place.item * job->time + place.time - job->lead) * job->channels;
    for (size_t point = 0; point < job->points; point++) {
        for (size_t tile = 0; tile < block->count; tile++) {
            block->rows[point * block->count + tile] = first + (point * job->dilation + tile) * job->channels;
        }
    }
}

/* Lays the block out in `memory`, which has room for block_size floats. */
static Block open_block(const Job *job, size_t first, size_t count, float *memory)
{
    Block block = {.first = first, .count = count, .rows = (const float **)memory};
    float *zeros = memory + rounded_up(job->points * count * FLOATS_OF_POINTER, PANEL);
    memset(zeros, job->padding, job->stride * sizeof zeros[0]);
    block.zeros = zeros;
    block.transformed = job->tile == 1 ? NULL : zeros + job->stride;
    Place place = place_of(job, first);
    if (job->tile == 1 && lies_within(job, &block, place)) {
        count_rows(job, &block, place);
        return block;
    }
    for (size_t tile = 0; tile < count; tile++) {
        if (job->tile == 1) {
            find_rows(job, &block, place, block.rows + tile, count);
            place = next_place(job, place);
        } else {
            for (size_t point = 0; point < job->points; point++) {
                block.rows[point * count + tile] = block.transformed + (point * count + tile) * job->stride;
            }
        }
    }
    return block;
}

static void transform_tiles(const Job *job, const Block *block, size_t begin, size_t end)
{
    const float *rows[MAX_POINTS];
    Place place = place_of(job, block->first + begin);
    for (size_t tile = begin; tile < end; tile++, place = next_place(job, place)) {
        find_rows(job, block, place, rows, 1);
        job->inner->transform_input(rows, job->channels, job->points, block->transformed + tile * job->stride,
                                    block->count * job->stride);
    }
}

static int needs_finish(const Job *job)
{
    return !grows_in_place(job) || job->bytes != NULL || job->bias != NULL || job->alpha != NULL || job->sum != NULL;
}

static void multiply_group(const Job *job, const Block *block, size_t group, float *memory)
{
    const size_t first = group * job->plan.group;
    const size_t panels = smaller(job->plan.group, job->panels - first);
    const int in_place = grows_in_place(job);
    const size_t row = in_place ? job->out_channels : job->plan.group * PANEL;
    const size_t plane = job->tile == 1 ? 0 : block->count * row;
    float *z = in_place ? job->y + block->first * row + first * PANEL : memory;
    const Product product = {
        .rows = block->rows,
        .weights = job->weights + first * job->channels * PANEL,
        .weights_point = job->panels * job->channels * PANEL,
        .points = job->points,
        .taps = job->plan.taps,
        .panels = panels,
        .count = block->count,
        .channels = job->channels,
        .depth = job->plan.depth,
        .z = z,
        .z_point = plane,
        .z_row = row,
    };
    const Finish finish = {
        .z = z,
        .z_point = plane,
        .z_row = row,
        .rows = memory + job->points * block->count * row,
        .first = block->first,
        .tiles = block->count,
        .column = first * PANEL,
        .count = smaller(panels * PANEL, job->out_channels - first * PANEL),
    };
    job->inner->multiply(&product);
    if (needs_finish(job)) {
        job->inner->finish(job, &finish);
    }
}

static void ORT_CALL run_block(void *user, size_t index)
{
    Work *work = user;
    const Job *job = work->job;
    const Plan *plan = &job->plan;
    const size_t first = index * plan->block;
    const size_t count = smaller(plan->block, job->tiles - first);
    const size_t size = rounded_up(block_size(job, count), PANEL);
    float *memory = take_scratch(size + results_size(job, count));
    if (memory == NULL) {
        atomic_store(&work->starved, 1);
        return;
    }
    const Block block = open_block(job, first, count, memory);
    if (job->tile > 1) {
        transform_tiles(job, &block, 0, count);
    }
    for (size_t group = 0; group < plan->groups; group++) {
        multiply_group(job, &block, group, memory + size);
    }
    give_scratch(memory);
}

static void ORT_CALL transform_piece(void *user, size_t index)
{
    const Work *work = user;
    const size_t begin = index * TRANSFORM_PIECE;
    transform_tiles(work->job, &work->shared, begin, smaller(begin + TRANSFORM_PIECE, work->shared.count));
}

static void ORT_CALL run_group(void *user, size_t index)
{
    Work *work = user;
    float *memory = take_scratch(results_size(work->job, work->shared.count));
    if (memory == NULL) {
        atomic_store(&work->starved, 1);
        return;
    }
    multiply_group(work->job, &work->shared, index, memory);
    give_scratch(memory);
}

static OrtStatus *no_memory(const Job *job)
{
    return fail("Expected working memory, got none - at omni::%s", job->bytes != NULL ? "QConv1d" : "Conv1d");
}

static OrtStatus *run_all(OrtKernelContext *context, Piece piece, Work *work, size_t pieces)
{
    return run_pieces(context, piece, work, (Span){.count = pieces, .piece = 1});
}

static OrtStatus *run_by_panels(OrtKernelContext *context, Work *work)
{
    const Job *job = work->job;
    float *memory = take_scratch(block_size(job, job->tiles));
    if (memory == NULL) {
        return no_memory(job);
    }
    OrtStatus *status = NULL;
    work->shared = open_block(job, 0, job->tiles, memory);
    if (job->tile > 1) {
        status = run_all(context, transform_piece, work, (job->tiles + TRANSFORM_PIECE - 1) / TRANSFORM_PIECE);
    }
    status = status ? status : run_all(context, run_group, work, job->plan.groups);
    give_scratch(memory);
    return status;
}

OrtStatus *run_conv1d(OrtKernelContext *context, const Job *job)
{
    Work work = {.job = job};
    atomic_init(&work.starved, 0);
    TRY(job->plan.by_panels ? run_by_panels(context, &work) : run_all(context, run_block, &work, job->plan.blocks));
    return atomic_load(&work.starved) ? no_memory(job) : NULL;
}
