/* The loss of rows of logits, and its gradient where they lie: a row stays in the cache while it is read three times.
   token_loss.py has the formulas. Logits are bf16, what is between is fp32, sums of a row are fp64. */

#include <math.h>

#include "compiled.h"

/* Rows that a thread takes at a time, numbers that are summed in fp32, and those that are searched at once. */
enum { LOSS_ROWS = 1, PIECE = 4096, SEARCHED = 512 };

/* As in token_loss.py. */
struct loss {
    uint16_t *logits; /* become their gradient, if that is wanted */
    const int64_t *targets;
    double *losses;
    int64_t *likeliest; /* the first place of the largest logit, or null */
    int64_t tokens;
    float scale; /* what logits are multiplied by */
    int32_t is_gradient_wanted;
};

PART void load_logits(const struct loss *l, const uint16_t *row, int64_t at, int64_t count, struct numbers *logits) {
    load(row, 1, 1, at, count, -INFINITY, logits);
    EACH logits->of[p] *= l->scale;
}

PART void load_powers(const struct loss *l, const uint16_t *row, int64_t at, int64_t count, float largest,
                      struct numbers *powers) {
    load_logits(l, row, at, count, powers);
    EACH powers->of[p] -= largest;
    exponentiate(powers);
}

PART float find_largest(const struct loss *l, const uint16_t *row) {
    const int64_t even = l->tokens / STEP * STEP;
    struct numbers logits, largest;
    EACH largest.of[p] = (vector){0} - INFINITY;
    for (int64_t at = 0; at < even; at += STEP) {
        load_logits(l, row, at, STEP, &logits);
        keep_largest(&logits, &largest);
    }
    if (even < l->tokens) {
        load_logits(l, row, even, l->tokens - even, &logits);
        keep_largest(&logits, &largest);
    }
    return find_largest_lane(&largest);
}

PART double sum_powers(const struct loss *l, const uint16_t *row, float largest) {
    const int64_t even = l->tokens / STEP * STEP;
    struct numbers powers;
    double total = 0;
    for (int64_t start = 0; start < even; start += PIECE) {
        struct numbers sum = {{{0}}};
        for (int64_t at = start; at < even && at < start + PIECE; at += STEP) {
            load_powers(l, row, at, STEP, largest, &powers);
            EACH sum.of[p] += powers.of[p];
        }
        total += sum_lanes(&sum);
    }
    if (even < l->tokens) {
        load_powers(l, row, even, l->tokens - even, largest, &powers);
        total += sum_lanes(&powers);
    }
    return total;
}

/* The probabilities, less one at the target. */
PART void write_gradient(const struct loss *l, uint16_t *row, int64_t target, float largest, float inverse) {
    const int64_t even = l->tokens / STEP * STEP;
    struct numbers powers, at_target;
    load_powers(l, row, target, 1, largest, &at_target);
    EACH at_target.of[p] = at_target.of[p] * inverse - 1.0f;
    for (int64_t at = 0; at < even; at += STEP) {
        load_powers(l, row, at, STEP, largest, &powers);
        EACH powers.of[p] *= inverse;
        store(row, 1, 1, at, STEP, &powers);
    }
    if (even < l->tokens) {
        load_powers(l, row, even, l->tokens - even, largest, &powers);
        EACH powers.of[p] *= inverse;
        store(row, 1, 1, even, l->tokens - even, &powers);
    }
    store(row, 1, 1, target, 1, &at_target);
}

PART float read_logit(const struct loss *l, const uint16_t *row, int64_t at) {
    struct numbers logit;
    load_logits(l, row, at, 1, &logit);
    return logit.of[0][0];
}

PART int is_in_piece(const struct loss *l, const uint16_t *row, int64_t start, float largest) {
    uint32_t lanes[LANES], seen = 0;
    bits is_equal = {0};
    for (int64_t at = start; at < start + SEARCHED; at += STEP) {
        struct numbers logits;
        load_logits(l, row, at, STEP, &logits);
        EACH is_equal |= (bits)(logits.of[p] == largest);
    }
    memcpy(lanes, &is_equal, sizeof lanes);
    for (int lane = 0; lane < LANES; lane++)
        seen |= lanes[lane];
    return seen != 0;
}

PART int64_t find_place(const struct loss *l, const uint16_t *row, float largest) {
    int64_t at = 0;
    while (at + SEARCHED <= l->tokens && !is_in_piece(l, row, at, largest))
        at += SEARCHED;
    for (; at < l->tokens; at++)
        if (read_logit(l, row, at) == largest)
            return at;
    return -1; /* a row of nothing but what is no number */
}

FOR_EACH_TARGET
static void take_losses(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct loss *l = job;
    (void)block;
    for (int64_t place = first; place < last; place++) {
        uint16_t *row = l->logits + place * l->tokens;
        const int64_t target = l->targets[place];
        const float largest = find_largest(l, row);
        const double sum = sum_powers(l, row, largest);
        l->losses[place] = log(sum) + (double)largest - (double)read_logit(l, row, target);
        if (l->likeliest)
            l->likeliest[place] = find_place(l, row, largest);
        if (l->is_gradient_wanted)
            write_gradient(l, row, target, largest, (float)(1.0 / sum));
    }
}

void afina_take_loss(const struct loss *l, int64_t rows, int threads) {
    afina_share_rows(take_losses, l, rows, LOSS_ROWS, threads);
}
