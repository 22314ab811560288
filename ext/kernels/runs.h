/* The runs of a piece: stretches of memory over which one loop can go, with the alpha, inv_beta and bias that belong
 * there.
 *
 * Channels first, a run stays within one row and has one alpha. Channels last, it has an alpha for each element; where
 * there are few channels their values are repeated, so that runs are long enough to be worth a loop.
 */
#ifndef OMNI_RUNS_H
#define OMNI_RUNS_H

#include "operator.h"

enum { FEW_CHANNELS = 128, CYCLE_SIZE = 256, RUN_SIZE = 1024 };

/* Values of a channel each. */
typedef struct PerChannel {
    const float *alpha;
    const float *inv_beta;
    const float *bias; /* NULL where there is none */
} PerChannel;

typedef struct Runs {
    PerChannel values;
    Signal signal;
    int channels_last;
    size_t cycle; /* longest run over repeated values; 0 where they are not repeated */
    float alpha[CYCLE_SIZE + FEW_CHANNELS];
    float inv_beta[CYCLE_SIZE + FEW_CHANNELS];
    float bias[CYCLE_SIZE + FEW_CHANNELS];
} Runs;

typedef struct Run {
    size_t count;      /* at most RUN_SIZE */
    size_t channel;    /* of the first element */
    PerChannel values; /* from that channel on */
} Run;

static ALWAYS_INLINE void repeat_channels(const float *values, size_t channels, float *repeated, size_t count)
{
    for (size_t i = 0, c = 0; i < count; i++) {
        repeated[i] = values[c];
        c = c + 1 == channels ? 0 : c + 1;
    }
}

static ALWAYS_INLINE void open_runs(Runs *runs, PerChannel values, Signal signal, int channels_last)
{
    runs->values = values;
    runs->signal = signal;
    runs->channels_last = channels_last;
    runs->cycle = 0;
    if (channels_last && signal.channels <= FEW_CHANNELS) {
        const size_t count = CYCLE_SIZE + signal.channels;
        runs->cycle = CYCLE_SIZE;
        repeat_channels(values.alpha, signal.channels, runs->alpha, count);
        repeat_channels(values.inv_beta, signal.channels, runs->inv_beta, count);
        if (values.bias != NULL) {
            repeat_channels(values.bias, signal.channels, runs->bias, count);
        }
        runs->values = (PerChannel){runs->alpha, runs->inv_beta, values.bias == NULL ? NULL : runs->bias};
    }
}

/* The run that starts at element `at`, when nothing may go past `end`. */
static ALWAYS_INLINE Run next_run(const Runs *runs, size_t at, size_t end)
{
    const size_t channels = runs->signal.channels;
    const size_t time = runs->signal.time;
    const PerChannel *values = &runs->values;
    Run run = {.count = smaller(end - at, RUN_SIZE)};
    if (runs->channels_last) {
        run.channel = at % channels;
        run.count = smaller(run.count, runs->cycle ? runs->cycle : channels - run.channel);
    } else {
        run.channel = at / time % channels;
        run.count = smaller(run.count, time - at % time);
    }
    run.values.alpha = values->alpha + run.channel;
    run.values.inv_beta = values->inv_beta + run.channel;
    run.values.bias = values->bias == NULL ? NULL : values->bias + run.channel;
    return run;
}

#endif
