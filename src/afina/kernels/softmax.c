/* Softmax of scaled and masked scores where they lie, and its gradient: each reads a row once from memory. softmax.py
   has the formulas. Scores and probabilities are bf16, everything between is fp32. */

#include <math.h>

#include "compiled.h"

/* The longest row, as in softmax.py: it lies on the stack, in fp32. */
enum { LONGEST = 16384, SOFTMAX_ROWS = 16 };

/* As in softmax.py. A row is a query of a head of a row of the batch, in this order. */
struct softmax {
    uint16_t *scores;    /* become probabilities; the backward pass reads these */
    const uint8_t *mask; /* 1 where a query may look; null for everywhere */
    const uint16_t *gradient; /* of the probabilities */
    uint16_t *score_gradient;
    int64_t heads, queries, keys;
    int64_t mask_batch, mask_head, mask_query; /* steps from one to the next */
    float scaling;
    int32_t is_causal; /* then query number t looks at the keys up to t */
};

/* All ones where a query may look, for even and odd places. */
PART void load_allowed(const uint8_t *mask, int64_t at, int64_t count, bits *even, bits *odd) {
    typedef uint16_t words __attribute__((vector_size(32)));
    words raw = {0};
    copy_some(mask + at, count, sizeof raw, &raw);
    bits pairs = __builtin_convertvector(raw, bits);
    *even = (bits)((pairs & 0xff) != 0);
    *odd = (bits)(pairs > 0xff);
}

/* Scaled scores, minus infinity where the query may not look. */
PART void load_scores(const struct softmax *s, const uint16_t *row, const uint8_t *mask, int64_t at, int64_t count,
                      struct numbers *scores, bits *any) {
    load(row, 1, 1, at, count, -INFINITY, scores);
    EACH scores->of[p] *= s->scaling;
    if (mask) {
        const vector nothing = (vector){0} - INFINITY;
        bits allowed[2];
        load_allowed(mask, at, count, &allowed[0], &allowed[1]);
        EACH {
            choose(&allowed[p], &scores->of[p], &nothing, &scores->of[p]);
            *any |= allowed[p];
        }
    }
}

PART int is_any(const bits *lanes) {
    uint32_t read[LANES], seen = 0;
    memcpy(read, lanes, sizeof read);
    for (int lane = 0; lane < LANES; lane++)
        seen |= read[lane];
    return seen != 0;
}

/* Minus infinity at the places behind the last one. */
PART void hide_behind(int64_t last, int64_t at, struct numbers *scores) {
    const bits even = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    const vector nothing = (vector){0} - INFINITY;
    EACH {
        bits is_seen = (bits)(even + (uint32_t)p <= (uint32_t)(last - at));
        choose(&is_seen, &scores->of[p], &nothing, &scores->of[p]);
    }
}

/* A query that may look nowhere looks everywhere alike, as with the least finite number for a mask. */
PART void spread(uint16_t *row, int64_t keys) {
    struct numbers share;
    EACH share.of[p] = (vector){0} + 1.0f / (float)keys;
    for (int64_t at = 0; at < keys; at += STEP)
        store(row, 1, 1, at, keys - at < STEP ? keys - at : STEP, &share);
}

/* Whole steps up to there, but no further than the row. */
PART int64_t round_up(int64_t places, int64_t keys) {
    const int64_t whole = (places + STEP - 1) / STEP * STEP;
    return whole < keys ? whole : keys;
}

PART void take_row(const struct softmax *s, uint16_t *row, const uint8_t *mask, int64_t last, struct numbers *buffer) {
    struct numbers largest, sum = {{{0}}};
    bits any = {0};
    const int64_t limit = round_up(last + 1, s->keys), even = limit / STEP * STEP, steps = (limit + STEP - 1) / STEP;
    EACH largest.of[p] = (vector){0} - INFINITY;
    for (int64_t at = 0; at < even; at += STEP) {
        load_scores(s, row, mask, at, STEP, &buffer[at / STEP], &any);
        if (last < at + STEP - 1)
            hide_behind(last, at, &buffer[at / STEP]);
        keep_largest(&buffer[at / STEP], &largest);
    }
    if (even < limit) {
        load_scores(s, row, mask, even, limit - even, &buffer[even / STEP], &any);
        if (last < limit - 1)
            hide_behind(last, even, &buffer[even / STEP]);
        keep_largest(&buffer[even / STEP], &largest);
    }
    const float most = find_largest_lane(&largest);
    if (mask && most == -INFINITY && !is_any(&any)) {
        spread(row, s->keys);
        return;
    }
    for (int64_t at = 0; at < steps; at++) {
        struct numbers power = buffer[at];
        EACH power.of[p] -= most;
        exponentiate(&power);
        EACH sum.of[p] += power.of[p];
        buffer[at] = power;
    }
    const float inverse = 1.0f / sum_lanes(&sum);
    for (int64_t at = 0; at < steps; at++) {
        EACH buffer[at].of[p] *= inverse;
        if (at * STEP < even)
            store(row, 1, 1, at * STEP, STEP, &buffer[at]);
        else
            store(row, 1, 1, even, limit - even, &buffer[at]);
    }
    if (limit < s->keys)
        memset(row + limit, 0, (size_t)(s->keys - limit) * sizeof *row);
}

PART void load_pair(const uint16_t *row, const uint16_t *gradient, int64_t at, int64_t count, struct numbers *p,
                    struct numbers *dp) {
    load(row, 1, 1, at, count, 0, p);
    load(gradient, 1, 1, at, count, 0, dp);
}

PART void add_product(const uint16_t *row, const uint16_t *gradient, int64_t at, int64_t count, struct numbers *sum) {
    struct numbers weights, weights_gradient;
    load_pair(row, gradient, at, count, &weights, &weights_gradient);
    EACH sum->of[p] += weights.of[p] * weights_gradient.of[p];
}

PART void write_gradient(const uint16_t *row, const uint16_t *gradient, int64_t at, int64_t count, float dot,
                         float scaling, uint16_t *to) {
    struct numbers weights, weights_gradient;
    load_pair(row, gradient, at, count, &weights, &weights_gradient);
    EACH weights.of[p] = weights.of[p] * (weights_gradient.of[p] - dot) * scaling;
    store(to, 1, 1, at, count, &weights);
}

/* Behind the last place that a query looks at, probabilities are 0 and so is what is written. */
PART void differentiate_row(const struct softmax *s, int64_t place, int64_t last) {
    const uint16_t *row = s->scores + place * s->keys, *gradient = s->gradient + place * s->keys;
    uint16_t *to = s->score_gradient + place * s->keys;
    const int64_t limit = round_up(last + 1, s->keys), even = limit / STEP * STEP;
    struct numbers sum = {{{0}}};
    for (int64_t at = 0; at < even; at += STEP)
        add_product(row, gradient, at, STEP, &sum);
    if (even < limit)
        add_product(row, gradient, even, limit - even, &sum);
    const float dot = sum_lanes(&sum);
    for (int64_t at = 0; at < even; at += STEP)
        write_gradient(row, gradient, at, STEP, dot, s->scaling, to);
    if (even < limit)
        write_gradient(row, gradient, even, limit - even, dot, s->scaling, to);
    if (limit < s->keys)
        memset(to + limit, 0, (size_t)(s->keys - limit) * sizeof *to);
}

/* Where a row stands. */
struct standing {
    int64_t batch, head, query;
};

PART void find_standing(const struct softmax *s, int64_t row, struct standing *to) {
    const int64_t matrix = row / s->queries;
    *to = (struct standing){matrix / s->heads, matrix % s->heads, row % s->queries};
}

/* The next row: divisions for each would cost as much as a short one. */
PART void step_on(const struct softmax *s, struct standing *standing) {
    if (++standing->query < s->queries)
        return;
    standing->query = 0;
    if (++standing->head < s->heads)
        return;
    standing->head = 0;
    standing->batch++;
}

FOR_EACH_TARGET
static void take_softmax(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct softmax *s = job;
    struct numbers buffer[LONGEST / STEP];
    struct standing at;
    (void)block;
    find_standing(s, first, &at);
    for (int64_t row = first; row < last; row++, step_on(s, &at)) {
        const uint8_t *mask = s->mask;
        if (mask)
            mask += at.batch * s->mask_batch + at.head * s->mask_head + at.query * s->mask_query;
        take_row(s, s->scores + row * s->keys, mask, s->is_causal ? at.query : s->keys - 1, buffer);
    }
}

FOR_EACH_TARGET
static void differentiate_softmax(const void *job, int64_t first, int64_t last, int64_t block) {
    const struct softmax *s = job;
    struct standing at;
    (void)block;
    find_standing(s, first, &at);
    for (int64_t row = first; row < last; row++, step_on(s, &at))
        differentiate_row(s, row, s->is_causal ? at.query : s->keys - 1);
}

void afina_take_softmax(const struct softmax *s, int64_t rows, int threads) {
    afina_share_rows(take_softmax, s, rows, SOFTMAX_ROWS, threads);
}

void afina_differentiate_softmax(const struct softmax *s, int64_t rows, int threads) {
    afina_share_rows(differentiate_softmax, s, rows, SOFTMAX_ROWS, threads);
}
