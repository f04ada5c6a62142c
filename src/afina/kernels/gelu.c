/* The exact GELU of bf16 numbers and its gradient, each in one pass. gelu.py has the formulas and the tables. */

#include "compiled.h"

/* Numbers that a thread takes at a time, and whose derivatives it looks up at a time. */
enum { GELU_BLOCK = 8192, SLOPES = 512 };

/* As in gelu.py. All tensors are bf16 and have one length. */
struct gelu {
    const uint16_t *input;
    uint16_t *output;         /* the input's gradient, in the backward pass */
    const uint16_t *gradient; /* of the output; the forward pass has none */
    const uint16_t *values;   /* of each bf16 number, in the order of their bits */
    const uint32_t *slopes;   /* the derivatives there, the bits of fp32 numbers */
};

/* Two reads and a write for a number, which is less work for a processor than any formula. Unrolled, or the loop's own
   work is a third as much again. */
static void look_up_values(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct gelu *g = job;
    const uint16_t *input = g->input, *values = g->values;
    uint16_t *restrict output = g->output;
    (void)block;
#pragma GCC unroll 16
    for (int64_t at = first; at < last; at++)
        output[at] = values[input[at]];
}

/* Apart from their product: what was just written can't be read in longer pieces at once. Called, and with `slopes`
   that might be `table`: a compiler that knows better builds vectors number by number, which takes nearly twice as
   long. */
static __attribute__((noinline)) void look_up_slopes(const uint16_t *input, const uint32_t *table, int64_t count,
                                                     uint32_t *slopes) {
#pragma GCC unroll 16
    for (int64_t at = 0; at < count; at++)
        slopes[at] = table[input[at]];
}

PART void multiply_slopes(const struct gelu *g, const uint32_t *slopes, int64_t first, int64_t at, int64_t count) {
    struct numbers slope, gradient;
    load_ordered(slopes, 0, at, count, &slope);
    load_ordered(g->gradient, 1, first + at, count, &gradient);
    EACH gradient.of[p] *= slope.of[p];
    store_ordered(g->output, 1, first + at, count, &gradient);
}

PART void differentiate(const struct gelu *g, int64_t first, int64_t count) {
    uint32_t slopes[SLOPES];
    int64_t at = 0;
    look_up_slopes(g->input + first, g->slopes, count, slopes);
    for (; at + STEP <= count; at += STEP)
        multiply_slopes(g, slopes, first, at, STEP);
    if (at < count)
        multiply_slopes(g, slopes, first, at, count - at);
}

FOR_EACH_TARGET
static void differentiate_gelu(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct gelu g = *(const struct gelu *)job;
    (void)block;
    for (int64_t at = first; at < last; at += SLOPES)
        differentiate(&g, at, last - at < SLOPES ? last - at : SLOPES);
}

void afina_apply_gelu(const struct gelu *g, int64_t length, int threads) {
    afina_share_rows(look_up_values, g, length, GELU_BLOCK, threads);
}

void afina_differentiate_gelu(const struct gelu *g, int64_t length, int threads) {
    afina_share_rows(differentiate_gelu, g, length, GELU_BLOCK, threads);
}
