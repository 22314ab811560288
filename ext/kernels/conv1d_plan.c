/* How a run of Conv1d is cut into blocks of tiles and groups of panels. */
#include "conv1d_inner.h"

enum {
    CACHE = 384 * 1024 / sizeof(float), /* floats of a second-level cache that one piece of work may count on */
    FIRST_CACHE = 24 * 1024 / sizeof(float),
    SHARED_TILES = 128, /* so few tiles that weights, not they, are what a thread should have for itself */
    FEW_BLOCKS = 8,
    LEAST_PASSES = 4,
    LONGEST_BLOCK = 96,
    WIDEST_GROUP = 8,
    WIDEST_DIRECT_GROUP = 48
};

static size_t divided_up(size_t value, size_t by) { return (value + by - 1) / by; }

/* A stretch of a panel, 16 columns wide, stays in the first-level cache. */
static void plan_pass(Job *job)
{
    const size_t longest = FIRST_CACHE / PANEL;
    const size_t turns = divided_up(job->channels, longest);
    const size_t depth = turns == 0 ? 1 : rounded_up(divided_up(job->channels, turns), 8);
    const size_t taps = job->tile > 1 || depth > longest ? 1 : longest / depth;
    job->plan.depth = depth;
    job->plan.taps = divided_up(job->points, divided_up(job->points, taps));
}

static void plan_by_panels(Job *job)
{
    Plan *plan = &job->plan;
    plan->by_panels = 1;
    plan->block = job->tiles;
    plan->blocks = 1;
    plan->groups = smaller(divided_up(job->panels, 4), 16);
    plan->group = divided_up(job->panels, plan->groups);
    plan->groups = divided_up(job->panels, plan->group);
}

/* A block's transformed rows and a group's results stay in the second-level cache where that leaves rows enough to
 * be worth reading the weights for; where it does not, each point's rows do. */
static size_t plan_block(const Job *job, size_t group)
{
    const size_t rows = job->inner->rows;
    const size_t points = job->tile == 1 ? 1 : job->points;
    const size_t whole = CACHE / (points * (job->stride + group * PANEL));
    if (whole >= LEAST_PASSES * rows) {
        return smaller(whole, LONGEST_BLOCK);
    }
    return rounded_up(smaller(LONGEST_BLOCK, CACHE / smaller(job->stride, CACHE)), rows);
}

static void plan_by_tiles(Job *job)
{
    Plan *plan = &job->plan;
    const size_t widest = job->tile == 1 ? WIDEST_DIRECT_GROUP : WIDEST_GROUP;
    plan->by_panels = 0;
    plan->group = divided_up(job->panels, divided_up(job->panels, widest));
    plan->groups = divided_up(job->panels, plan->group);
    plan->block = smaller(plan_block(job, plan->group), divided_up(job->tiles, FEW_BLOCKS));
    plan->block = rounded_up(plan->block, job->inner->rows);
    plan->blocks = divided_up(job->tiles, plan->block);
}

void plan_conv1d(Job *job)
{
    const size_t turn = job->dilation * job->tile;
    job->row_tiles = job->time_out / turn * job->dilation + smaller(job->time_out % turn, job->dilation);
    job->tiles = job->batch * job->row_tiles;
    job->stride = rounded_up(job->channels, PANEL);
    if (job->tiles == 0 || job->panels == 0) {
        job->plan = (Plan){0};
        return;
    }
    if (job->tiles <= SHARED_TILES) {
        plan_by_panels(job);
    } else {
        plan_by_tiles(job);
    }
    plan_pass(job);
}
